#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fprnn/models/safetensors_writer.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>

namespace fprnn {

namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr size_t kMaxHeader = 100'000'000;

std::string json_string(const std::string& text) {
  require<ValueError>(text.size() <= kMaxHeader, "safetensors",
                      "names and metadata must fit a header of 100 MB: bytes", text.size());
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::type_error&) {
    throw ValueError("safetensors", "names and metadata must be UTF-8", std::array{describe(text)});
  }
}

}  // namespace

template <class Element>
void SafetensorsWriter::add(const std::string& name, const char* dtype,
                            const BasicTensor<Element>& tensor) {
  require<UsageError>(tensor.defined(), "safetensors", "an empty tensor cannot be written", name);
  require<ValueError>(name != "__metadata__", "safetensors",
                      "no tensor may have the metadata's name");
  std::string quoted = json_string(name);
  require<ValueError>(names_.insert(name).second, "safetensors", "names must be unique", name);
  const auto place = std::ranges::find_if(
      entries_, [](const Entry& entry) { return entry.width < int64_t{sizeof(Element)}; });
  entries_.insert(place, {.name = std::move(quoted),
                          .dtype = dtype,
                          .shape = tensor.shape(),
                          .context = tensor.context(),
                          .keep = std::make_shared<BasicTensor<Element>>(tensor),
                          .elements = reinterpret_cast<const char*>(tensor.data()),
                          .bytes = tensor.elements() * int64_t{sizeof(Element)},
                          .width = sizeof(Element)});
}

void SafetensorsWriter::add(const std::string& name, const Tensor& tensor) {
  add<real>(name, kDouble ? "F64" : "F32", tensor);
}

void SafetensorsWriter::add(const std::string& name, const IntTensor& tensor) {
  add<int32_t>(name, "I32", tensor);
}

void SafetensorsWriter::add_metadata(const std::string& key, const std::string& value) {
  json_string(key);
  json_string(value);
  require<ValueError>(metadata_.emplace(key, value).second, "safetensors",
                      "the metadata's keys must be unique", key);
}

std::string SafetensorsWriter::header() const {
  std::vector<std::string> fields;
  if (!metadata_.empty())
    fields.push_back(fmt::format(R"("__metadata__":{})", nlohmann::json(metadata_).dump()));
  int64_t begin = 0;
  for (const Entry& entry : entries_) {
    fields.push_back(fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                                 entry.name, entry.dtype, fmt::join(entry.shape.sizes(), ","),
                                 begin, begin + entry.bytes));
    begin += entry.bytes;
  }
  std::string header = fmt::format("{{{}}}", fmt::join(fields, ","));
  header.resize((header.size() + 7) / 8 * 8, ' ');
  require<ValueError>(header.size() <= kMaxHeader, "safetensors",
                      "the header must fit 100 MB: tensors and bytes", entries_.size(),
                      header.size());
  return header;
}

void SafetensorsWriter::write(OutputFile& file) const {
  const std::string header = this->header();
  const uint64_t length = header.size();
  file.write(&length, sizeof length);
  file.write(header);
  constexpr int64_t kPiece = 1 << 18;
  std::vector<char> piece(kPiece);
  for (const Entry& entry : entries_)
    for (int64_t done = 0; done < entry.bytes; done += kPiece) {
      const int64_t length = std::min(kPiece, entry.bytes - done);
      launch(entry.context,
             ToHost{.from = entry.elements + done, .to = piece.data(), .bytes = length});
      file.write(piece.data(), length);
    }
}

void SafetensorsWriter::write(const std::string& path) const {
  replace_file(path, [this](OutputFile& file) { write(file); });
}

}  // namespace fprnn
