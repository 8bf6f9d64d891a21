// The reader of safetensors files: what it must read, and what an enemy might write.
#include <doctest/doctest.h>
#include <fprnn/models/safetensors.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "context.h"
#include "folder.h"
#include "malformed.h"
#include "refused.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

namespace fs = std::filesystem;

// A folder and a file in it.
struct Scratch : Folder {
  std::string file() const { return Folder::file("test.safetensors"); }
  std::string write(const std::string& bytes) const { return write_file(file(), bytes); }
  SafetensorsFile read(const std::string& bytes) const {
    return SafetensorsFile::read(write(bytes));
  }
};

template <class... Values>
std::string bytes_of(Values... values) {
  std::string bytes;
  (bytes.append(reinterpret_cast<const char*>(&values), sizeof values), ...);
  return bytes;
}

// What is thrown must be a FormatError that names the reader; anything else fails the test by its
// type.
template <class Call>
void check_refused(const std::string& name, const Call& call) {
  INFO(name);
  try {
    call();
    FAIL_CHECK("nothing was thrown");
  } catch (const FormatError& error) {
    CHECK(error.tag() == "safetensors");
  } catch (const std::exception& error) {
    FAIL_CHECK("not a FormatError: ", std::string(error.what()));
  }
}

// Two tensors and metadata, in every field of which something can be broken.
std::string small_file() {
  return safetensors_bytes(
      R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"I64","shape":[1,2],"data_offsets":[8,24]}} )",
      bytes_of(1.5F, -2.5F, int64_t{7}, int64_t{-7}));
}

}  // namespace

TEST_CASE("safetensors: every golden file can be read") {
  const Context context = test_context();
  int files = 0;
  for (const auto& entry : fs::directory_iterator(FPRNN_SOURCE_DIR "/tests/golden")) {
    if (entry.path().extension() != ".safetensors") continue;
    ++files;
    const SafetensorsFile file = SafetensorsFile::read(entry.path());
    INFO(entry.path().string());
    CHECK(file.metadata().contains("spec"));
    CHECK(!file.entries().empty());
    for (const SafetensorsEntry& tensor : file.entries()) {
      if (tensor.dtype == "F64" || tensor.dtype == "F32") {
        const Tensor values = file.tensor(context, tensor.name);
        CHECK(values.shape() == tensor.shape);
        for (const real value : values.to_vector()) REQUIRE(std::isfinite(value));
      } else {
        CHECK(file.ints(context, tensor.name).shape() == tensor.shape);
      }
    }
  }
  CHECK(files >= 15);
}

TEST_CASE("safetensors: reals and integers of both widths, scalars, empty tensors and metadata") {
  const Context context = test_context();
  const Scratch folder;
  // The header names them in another order than the data, and has every kind of white space.
  const SafetensorsFile file = folder.read(safetensors_bytes(
      "{ \"i64\" :\t{\"shape\":[2],\"data_offsets\":[28,44],\"dtype\":\"I64\"},\r\n"
      R"("f64":{"dtype":"F64","shape":[1,1,1,2,1,1,1,1],"data_offsets":[0,16]},)"
      R"("\u00e9\"":{"dtype":"F32","shape":[],"data_offsets":[16,20]},)"
      R"("i32":{"dtype":"I32","shape":[2,1],"data_offsets":[20,28]},)"
      R"("none":{"dtype":"F32","shape":[3,0,9],"data_offsets":[44,44]},)"
      R"("":{"dtype":"I32","shape":[0],"data_offsets":[16,16]},)"
      "\"__metadata__\":{\"dtype\":\"F32\",\"shape\":\"\",\"\\n\":\"\xc3\xa9\"}}\n   ",
      bytes_of(0.1, -1e300, 0.1F, int32_t{-5}, INT32_MAX, int64_t{INT32_MIN}, int64_t{1} << 31)));
  CHECK(file.metadata() ==
        std::map<std::string, std::string>{{"dtype", "F32"}, {"shape", ""}, {"\n", "\xc3\xa9"}});
  std::vector<std::string> names;
  for (const SafetensorsEntry& entry : file.entries()) names.push_back(entry.name);
  CHECK(names == std::vector<std::string>{"f64", "", "\xc3\xa9\"", "i32", "i64", "none"});

  const Tensor f64 = file.tensor(context, "f64");
  CHECK(f64.shape() == Shape{1, 1, 1, 2, 1, 1, 1, 1});
  CHECK(f64.to_vector()[0] == static_cast<real>(0.1));
  CHECK(f64.to_vector()[1] == (kDouble ? static_cast<real>(-1e300) : -INFINITY));
  const Tensor scalar = file.tensor(context, "\xc3\xa9\"");
  CHECK(scalar.shape() == Shape{});
  CHECK(scalar.to_vector()[0] == static_cast<real>(0.1F));
  CHECK(file.ints(context, "i32").to_vector() == std::vector<int32_t>{-5, INT32_MAX});
  CHECK(file.ints(context, "i32").shape() == Shape{2, 1});
  CHECK(file.tensor(context, "none").elements() == 0);
  CHECK(file.ints(context, "").shape() == Shape{0});

  CHECK(file.has("none"));
  CHECK(!file.has("__metadata__"));
  check_refused("beyond 32 bits", [&] { file.ints(context, "i64"); });
  check_refused("integers as reals", [&] { file.tensor(context, "i32"); });
  check_refused("reals as integers", [&] { file.ints(context, "f64"); });
  check_refused("absent", [&] { file.tensor(context, "f6"); });
}

TEST_CASE("safetensors: the smallest files, and every dtype of the format") {
  const Scratch folder;
  CHECK(folder.read(safetensors_bytes("{}", "")).entries().empty());
  CHECK(folder.read(safetensors_bytes(R"({"__metadata__":{}})", "")).metadata().empty());
  const std::map<std::string, int> sizes{
      {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"I32", 4}, {"I16", 2},
      {"I8", 1},  {"U64", 8}, {"U32", 4}, {"U16", 2},  {"U8", 1},  {"BOOL", 1}};
  for (const auto& [dtype, size] : sizes) {
    const std::string end = std::to_string(3 * size), data(3 * size, 'x');
    const std::string header = R"({"t":{"dtype":")" + dtype + R"(","shape":[3],"data_offsets":[0,)";
    const SafetensorsFile file = folder.read(safetensors_bytes(header + end + "]}}", data));
    CHECK(file.entries().size() == 1);
    CHECK(file.entries()[0].dtype == dtype);
  }
}

TEST_CASE("safetensors: malformed files are refused, each for its own reason") {
  const Scratch folder;
  const std::vector<Malformed> corpus = malformed_files();
  CHECK(corpus.size() >= 60);
  for (const Malformed& file : corpus) check_refused(file.rule, [&] { folder.read(file.bytes); });
  // What they were made from is sound, so it was the one change that was refused.
  CHECK_NOTHROW(folder.read(small_file()));
  CHECK_NOTHROW(folder.read(sound_file()));
}

TEST_CASE("safetensors: what is no regular, readable file is refused") {
  const Scratch folder;
  for (const std::string& path : {folder.file() + "absent", folder.path(), std::string(),
                                  std::string("/dev/zero"), folder.file() + "/below"})
    check_refused<FileError>(path, [&] { SafetensorsFile::read(path); });
  // Opening a pipe would wait for somebody to write into it.
  const std::string pipe = folder.Folder::file("pipe");
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  check_refused<FileError>(pipe, [&] { SafetensorsFile::read(pipe); });
}

TEST_CASE("safetensors: a file that is cut short while it is read is refused") {
  const Context context = test_context();
  const Scratch folder;
  const SafetensorsFile file = folder.read(small_file());
  CHECK(file.tensor(context, "a").to_vector()[1] == real(-2.5));
  fs::resize_file(folder.file(), small_file().size() - 17);
  check_refused<FileError>(folder.file(), [&] { file.tensor(context, "a"); });
  check_refused<FileError>(folder.file(), [&] { file.ints(context, "b"); });
  // What replaces it under its name is another file.
  const SafetensorsFile kept = folder.read(small_file());
  fs::remove(folder.file());
  folder.write("no tensors");
  CHECK(kept.ints(context, "b").to_vector() == std::vector<int32_t>{7, -7});
}

// The header is sound; only the memory is missing.
TEST_CASE("safetensors: a tensor beyond the byte limit is refused, others can be read") {
  const Context context = context_with(1, 1 << 20);
  const Scratch folder;
  const std::string header =
      R"({"small":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("vast":{"dtype":"F32","shape":[262144,1048574],"data_offsets":[8,)" +
      std::to_string(8 + int64_t{262144} * 1048574 * 4) + "]}}";
  folder.write(safetensors_bytes(header, ""));
  std::error_code error;
  fs::resize_file(folder.file(), 8 + header.size() + 8 + int64_t{262144} * 1048574 * 4, error);
  if (error) return;  // not on every file system
  const SafetensorsFile file = SafetensorsFile::read(folder.file());
  CHECK_THROWS_AS(file.tensor(context, "vast"), MemoryError);
  CHECK(file.tensor(context, "small").to_vector()[0] == 0);
}

// Files with a hole take no disk, and no reader may take memory for them before their header is
// found to be sound.
TEST_CASE("safetensors: vast files with an unsound header take no memory") {
  const Scratch folder;
  std::error_code error;
  folder.write(bytes_of(uint64_t{100'000'001}));
  fs::resize_file(folder.file(), 100'000'100, error);
  if (!error) check_refused("a header above 100 MB", [&] { SafetensorsFile::read(folder.file()); });
  for (const std::string header :
       {"{}", "{]", R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})"}) {
    folder.write(safetensors_bytes(header, ""));
    fs::resize_file(folder.file(), uintmax_t{1} << 42, error);  // not on every file system
    if (!error) check_refused(header, [&] { SafetensorsFile::read(folder.file()); });
  }
}

TEST_CASE("safetensors: a file that ends too early is refused wherever it ends") {
  const Scratch folder;
  const std::string bytes = small_file();
  for (size_t size = 0; size < bytes.size(); ++size)
    check_refused("cut to " + std::to_string(size), [&] { folder.read(bytes.substr(0, size)); });
}

TEST_CASE("safetensors: a file that goes on after its last tensor is refused") {
  const Scratch folder;
  for (const std::string& more : {std::string(1, '\0'), std::string(" "), std::string(4096, 'x')})
    for (const std::string& bytes : {small_file(), sound_file(), safetensors_bytes("{}", "")})
      check_refused("appended", [&] { folder.read(bytes + more); });
}

// Written by interoperability.py with the safetensors package.
TEST_CASE("safetensors: files of the Python package hold what it was given") {
  const Context context = test_context();
  const auto read = [](const std::string& name) {
    return SafetensorsFile::read(FPRNN_SOURCE_DIR "/tests/data/" + name + ".safetensors");
  };
  const SafetensorsFile dtypes = read("dtypes");
  CHECK(dtypes.entries().size() == 9);
  CHECK(dtypes.metadata().empty());
  const Tensor f32 = dtypes.tensor(context, "f32"), f64 = dtypes.tensor(context, "f64");
  CHECK(f32.shape() == Shape{2, 3});
  CHECK(same_bits(f32.to_vector(), {1.5F, -2.25F, 0.1F, INFINITY, -0.0F, 3e38F}));
  CHECK(same_bits(f64.to_vector(), {static_cast<real>(0.1), kDouble ? real(-1e300) : -INFINITY,
                                    static_cast<real>(5e-324)}));
  CHECK(dtypes.ints(context, "i64").to_vector() == std::vector<int32_t>{INT32_MIN, INT32_MAX, 7});
  CHECK(dtypes.ints(context, "i32").to_vector() == std::vector<int32_t>{-5, INT32_MAX});
  CHECK(dtypes.tensor(context, "scalar.f32").shape() == Shape{});
  CHECK(dtypes.tensor(context, "scalar.f32").to_vector()[0] == 2.5);
  CHECK(dtypes.ints(context, "scalar.i64").to_vector()[0] == -9);
  CHECK(dtypes.tensor(context, "empty.f32").shape() == Shape{0});
  CHECK(dtypes.tensor(context, "empty.f64").shape() == Shape{3, 0, 2});
  CHECK(dtypes.ints(context, "empty.i32").shape() == Shape{0, 4});

  const SafetensorsFile names = read("names");
  CHECK(names.metadata() ==
        std::map<std::string, std::string>{
            {"größe", "重み 🙂"}, {"quote \"", "line\nline"}, {"", ""}, {"format", "np"}});
  CHECK(names.tensor(context, "größe.重み").to_vector() == std::vector<real>{1, 2});
  CHECK(names.ints(context, "emoji 🙂").to_vector()[0] == 3);
  CHECK(names.tensor(context, "quote \" backslash \\ newline \n tab \t").to_vector()[0] == 4);
  CHECK(names.tensor(context, "").to_vector()[0] == 5);
  CHECK(names.ints(context, "\x01\x1f\x7f").to_vector()[0] == 6);
  CHECK(read("nothing").entries().empty());
  CHECK(read("metadata").metadata().at("only") == "metadata");
}

// What remains readable must still keep within the file.
TEST_CASE("safetensors: any changed byte leaves a file that is read or refused") {
  const Context context = test_context();
  const Scratch folder;
  const std::string bytes = small_file();
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  int read = 0;
  for (size_t at = 0; at < bytes.size(); ++at)
    for (const int change : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}) {
      INFO("byte ", at, " changed by ", change);
      std::string changed = bytes;
      changed[at] = static_cast<char>(changed[at] ^ change);
      try {
        const SafetensorsFile file = folder.read(changed);
        ++read;
        for (const SafetensorsEntry& entry : file.entries()) {
          REQUIRE((0 <= entry.begin && entry.begin <= entry.end));
          REQUIRE(entry.end <= static_cast<int64_t>(bytes.size() - 8 - header));
          if (entry.dtype[0] == 'F' && entry.dtype != "F16")
            CHECK(file.tensor(context, entry.name).shape() == entry.shape);
          else
            file.ints(context, entry.name);
        }
      } catch (const FormatError&) {
      } catch (const std::exception& error) {
        FAIL_CHECK("not a FormatError: ", std::string(error.what()));
      }
    }
  // Data and names may be anything; every other byte of the header matters.
  CHECK(read >= 24 * 9);
  CHECK(read < 40 * 9);
}

}  // namespace fprnn::tests
