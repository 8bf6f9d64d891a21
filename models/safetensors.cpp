#include <fprnn/models/safetensors.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <new>
#include <set>

namespace fprnn {

namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr uint64_t kMaxHeader = 100'000'000;

struct Dtype {
  const char* name;
  int64_t size;
};
constexpr Dtype kDtypes[] = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},
                             {"I32", 4}, {"I16", 2}, {"I8", 1},  {"U64", 8},  {"U32", 4},
                             {"U16", 2}, {"U8", 1},  {"BOOL", 1}};

int64_t dtype_size(const std::string& name) {
  for (const Dtype& dtype : kDtypes)
    if (name == dtype.name) return dtype.size;
  return 0;
}

// The header as events, since a document model would accept duplicate names and narrow integers.
// The only structure accepted is {name: {field: value}}, value a string or an array of unsigned
// integers.
struct HeaderParser : nlohmann::json_sax<nlohmann::json> {
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
  std::string problem;

  int depth = 0;
  bool in_array = false;
  std::string name, field;
  std::set<std::string> names, fields;
  std::vector<int64_t> numbers;

  bool refuse(std::string what) {
    if (problem.empty()) problem = std::move(what);
    return false;
  }
  bool in_metadata() const { return name == "__metadata__"; }

  bool null() override { return refuse("null is not allowed"); }
  bool boolean(bool) override { return refuse("booleans are not allowed"); }
  bool number_integer(number_integer_t) override { return refuse("numbers must not be negative"); }
  bool number_float(number_float_t, const string_t&) override {
    return refuse("numbers must be unsigned integers");
  }
  bool binary(binary_t&) override { return refuse("binary is not allowed"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (!in_array) return refuse("a number stands outside an array");
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      return refuse("a number does not fit 63 bits");
    if (numbers.size() >= Shape::kMaxRank) return refuse("an array has more than 8 numbers");
    numbers.push_back(static_cast<int64_t>(value));
    return true;
  }
  bool string(string_t& value) override {
    if (depth != 2 || in_array) return refuse("a string stands where an object or number belongs");
    if (in_metadata())
      metadata[field] = value;
    else if (field == "dtype")
      entries.back().dtype = value;
    else
      return refuse("field '" + field + "' must not be a string");
    return true;
  }
  bool start_object(size_t) override {
    if (in_array || ++depth > 2) return refuse("objects are nested too deeply");
    if (depth == 2) {
      fields.clear();
      if (!in_metadata()) entries.push_back({.name = name, .dtype = {}, .shape = {}});
    }
    return true;
  }
  bool key(string_t& value) override {
    if (!(depth == 1 ? names : fields).insert(value).second)
      return refuse("name '" + value + "' appears twice");
    (depth == 1 ? name : field) = value;
    return true;
  }
  bool end_object() override {
    if (depth == 2 && !in_metadata() &&
        fields != std::set<std::string>{"data_offsets", "dtype", "shape"})
      return refuse("tensor '" + name + "' must have dtype, shape and data_offsets alone");
    --depth;
    return true;
  }
  bool start_array(size_t) override {
    if (in_array || depth != 2 || in_metadata() || (field != "shape" && field != "data_offsets"))
      return refuse("an array stands where none belongs");
    in_array = true;
    numbers.clear();
    return true;
  }
  bool end_array() override {
    in_array = false;
    if (field == "shape") {
      try {
        entries.back().shape = Shape(std::span<const int64_t>(numbers));
      } catch (const ShapeError& error) {
        return refuse(error.what());
      }
    } else {
      if (numbers.size() != 2) return refuse("data_offsets must be two numbers");
      entries.back().begin = numbers[0];
      entries.back().end = numbers[1];
    }
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    return refuse(error.what());
  }
};

void check_entries(std::vector<SafetensorsEntry>& entries, int64_t bytes, const std::string& path) {
  std::ranges::stable_sort(
      entries, {}, [](const SafetensorsEntry& entry) { return std::pair(entry.begin, entry.end); });
  int64_t next = 0;
  for (const SafetensorsEntry& entry : entries) {
    const int64_t size = dtype_size(entry.dtype);
    require<FormatError>(size > 0, "safetensors", "dtypes must be known: file, tensor and dtype",
                         path, entry.name, entry.dtype);
    require<FormatError>(
        entry.begin == next, "safetensors",
        "offsets must leave no hole and not overlap: file, tensor, begin and expected", path,
        entry.name, entry.begin, next);
    int64_t expected = 0;
    require<FormatError>(
        !__builtin_mul_overflow(entry.shape.elements(), size, &expected) &&
            entry.end >= entry.begin && entry.end - entry.begin == expected,
        "safetensors", "offsets must span elements times size: file, tensor, shape, begin and end",
        path, entry.name, entry.shape, entry.begin, entry.end);
    next = entry.end;
  }
  require<FormatError>(next == bytes, "safetensors",
                       "the data must end with the last tensor: file, end and bytes", path, next,
                       bytes);
}

std::string read_header(const InputFile& file) {
  const int64_t size = file.size();
  require<FormatError>(size >= 8, "safetensors", "a file has at least 8 bytes: file and size",
                       file.path(), size);
  uint64_t length = 0;
  file.read(0, &length, 8);
  require<FormatError>(
      length <= kMaxHeader && length <= static_cast<uint64_t>(size - 8), "safetensors",
      "the header must fit the file and 100 MB: file, size and header", file.path(), size, length);
  std::string header(length, '\0');
  file.read(8, header.data(), static_cast<int64_t>(length));

  // A zero byte, which no JSON contains, would end the text for the parser whatever follows.
  require<FormatError>(header.starts_with('{') && header.find('\0') == std::string::npos,
                       "safetensors", "the header must start with { and contain no zero byte",
                       file.path());
  return header;
}

}  // namespace

SafetensorsFile SafetensorsFile::read(const std::string& path) try {
  SafetensorsFile file;
  file.file_ = std::make_shared<const InputFile>(path);
  const std::string header = read_header(*file.file_);
  HeaderParser parser;
  const bool parsed = nlohmann::json::sax_parse(header, &parser);
  require<FormatError>(parsed, "safetensors",
                       "the header must be a JSON object of tensors: file and problem", path,
                       parser.problem);
  file.metadata_ = std::move(parser.metadata);
  file.entries_ = std::move(parser.entries);
  file.data_ = 8 + static_cast<int64_t>(header.size());
  check_entries(file.entries_, file.file_->size() - file.data_, path);
  return file;
} catch (const std::bad_alloc&) {
  throw MemoryError("safetensors", "the machine must hold the header", std::array{describe(path)});
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = std::ranges::find(entries_, name, &SafetensorsEntry::name);
  return found == entries_.end() ? nullptr : &*found;
}

const SafetensorsEntry& SafetensorsFile::at(std::string_view name) const {
  const SafetensorsEntry* entry = find(name);
  require<FormatError>(entry != nullptr, "safetensors", "the tensor must exist: file and tensor",
                       file_->path(), name);
  return *entry;
}

namespace {

template <class From, class To>
To convert(From value) {
  const To converted = static_cast<To>(value);
  if constexpr (std::is_integral_v<From>)
    require<FormatError>(static_cast<From>(converted) == value, "safetensors",
                         "integers must fit 32 bits", value);
  return converted;
}

// Elements of one type as another, a piece at a time: the host needs no more memory.
template <class From, class To>
void read_elements(const InputFile& file, int64_t at, const BasicTensor<To>& to) {
  constexpr int64_t kPiece = 1 << 16;
  std::vector<From> piece(std::min(kPiece, to.elements()));
  std::vector<To> converted(piece.size());
  for (int64_t done = 0; done < to.elements(); done += kPiece) {
    const int64_t length = std::min(kPiece, to.elements() - done);
    file.read(at + done * int64_t{sizeof(From)}, piece.data(), length * int64_t{sizeof(From)});
    std::transform(piece.begin(), piece.begin() + length, converted.begin(), convert<From, To>);
    launch(to.context(), FromHost{.from = converted.data(),
                                  .to = to.data() + done,
                                  .bytes = length * int64_t{sizeof(To)}});
  }
}

// A tensor whose elements are of either type in the file.
template <class Wide, class Narrow, class To>
BasicTensor<To> read_either(const Context& context, const InputFile& file, int64_t data,
                            const SafetensorsEntry& entry, std::string_view wide,
                            std::string_view narrow, std::string_view rule) {
  require<FormatError>(entry.dtype == wide || entry.dtype == narrow, "safetensors", rule,
                       file.path(), entry.name, entry.dtype);
  const BasicTensor<To> out(context, entry.shape);
  if (entry.dtype == wide)
    read_elements<Wide>(file, data + entry.begin, out);
  else
    read_elements<Narrow>(file, data + entry.begin, out);
  return out;
}

}  // namespace

Tensor SafetensorsFile::tensor(const Context& context, std::string_view name) const {
  return read_either<double, float, real>(context, *file_, data_, at(name), "F64", "F32",
                                          "reals must be F64 or F32: file, tensor and dtype");
}

IntTensor SafetensorsFile::ints(const Context& context, std::string_view name) const {
  return read_either<int64_t, int32_t, int32_t>(
      context, *file_, data_, at(name), "I64", "I32",
      "integers must be I64 or I32: file, tensor and dtype");
}

}  // namespace fprnn
