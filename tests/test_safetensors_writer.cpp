// The writer of safetensors files: what it writes the strict reader reads back, to the bit.
#include <doctest/doctest.h>
#include <fprnn/models/safetensors.h>
#include <fprnn/models/safetensors_writer.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "failures.h"
#include "folder.h"
#include "refused.h"
#include "rewrite.h"
#include "run_case.h"
#include "small_model.h"

namespace fprnn::tests {

namespace {

namespace fs = std::filesystem;

IntTensor integers(const Context& context, const Shape& shape, std::vector<int32_t> values) {
  return {context, shape, values};
}

// Every kind of tensor, name and metadata.
SafetensorsWriter varied(const Context& context) {
  const real nan = std::numeric_limits<real>::quiet_NaN();
  SafetensorsWriter writer;
  writer.add("tokens", integers(context, {2, 2}, {0, -1, INT32_MIN, INT32_MAX}));
  writer.add("w", random(context, {3, 5}, 1));
  writer.add("special", Tensor(context, {5},
                               std::vector<real>{nan, -nan, real(-0.0), INFINITY,
                                                 std::numeric_limits<real>::denorm_min()}));
  writer.add("scalar", random(context, {}, 2));
  writer.add("none", Tensor(context, {2, 0, 3}));
  writer.add("no integers", IntTensor(context, {0}));
  writer.add("rank 8", random(context, {1, 2, 1, 1, 2, 1, 1, 1}, 3));
  writer.add("größe \"\\\n\x01\x7f 重み 🙂", random(context, {1}, 4));
  writer.add("", integers(context, {1}, {5}));
  writer.add(std::string("nul\0nul", 7), random(context, {2}, 6));
  writer.add_metadata("größe", "a \"b\" \\ \n\t\x1f 🙂");
  writer.add_metadata("", "");
  writer.add_metadata(std::string(1, '\0'), "__metadata__");
  return writer;
}

// Same names, shapes, bits and metadata, whatever the order.
void check_same(const SafetensorsFile& x, const SafetensorsFile& y) {
  const Context context = test_context();
  CHECK(x.metadata() == y.metadata());
  REQUIRE(x.entries().size() == y.entries().size());
  for (const SafetensorsEntry& entry : x.entries()) {
    INFO(entry.name);
    REQUIRE(y.has(entry.name));
    if (entry.dtype[0] == 'F') {
      const Tensor a = x.tensor(context, entry.name), b = y.tensor(context, entry.name);
      CHECK(a.shape() == b.shape());
      CHECK(same_bits(a.to_vector(), b.to_vector()));
    } else {
      const IntTensor a = x.ints(context, entry.name), b = y.ints(context, entry.name);
      CHECK(a.shape() == b.shape());
      CHECK(a.to_vector() == b.to_vector());
    }
  }
}

}  // namespace

TEST_CASE("safetensors: what is written is read back to the bit") {
  const Context context = test_context();
  const Folder folder;
  const std::string path = folder.file("x.safetensors");
  varied(context).write(path);
  const SafetensorsFile file = SafetensorsFile::read(path);
  CHECK(file.entries().size() == 10);
  CHECK(file.metadata().size() == 3);
  CHECK(file.metadata().at("größe") == "a \"b\" \\ \n\t\x1f 🙂");
  CHECK(file.metadata().at(std::string(1, '\0')) == "__metadata__");
  CHECK(file.ints(context, "tokens").to_vector() ==
        std::vector<int32_t>{0, -1, INT32_MIN, INT32_MAX});
  CHECK(file.tensor(context, "rank 8").shape() == Shape{1, 2, 1, 1, 2, 1, 1, 1});
  CHECK(same_bits(file.tensor(context, "w").to_vector(), random(context, {3, 5}, 1).to_vector()));
  CHECK(std::signbit(file.tensor(context, "special").to_vector()[2]));
  CHECK(file.tensor(context, std::string("nul\0nul", 7)).shape() == Shape{2});
}

TEST_CASE(
    "safetensors: written bytes are the same each time, aligned, and wide dtypes come first") {
  const Context context = test_context();
  const Folder folder;
  const std::string x = folder.file("x"), y = folder.file("y");
  varied(context).write(x);
  varied(context_with(1)).write(y);
  const std::string bytes = file_bytes(x);
  CHECK(bytes == file_bytes(y));
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  CHECK(header % 8 == 0);
  const SafetensorsFile file = SafetensorsFile::read(x);
  for (const SafetensorsEntry& entry : file.entries())
    CHECK(entry.begin % (entry.dtype == "F64" ? 8 : 4) == 0);
  CHECK(file.entries().front().dtype == (kDouble ? "F64" : "I32"));
  // Written again from what was read, nothing changes any more.
  rewrite(x, y);
  rewrite(y, x);
  CHECK(file_bytes(x) == file_bytes(y));
  CHECK(listing(folder.path()) == std::vector<std::string>{"x", "y"});
}

TEST_CASE("safetensors: every golden file and every one of the Python package can be rewritten") {
  const Folder folder;
  int files = 0;
  for (const char* from : {FPRNN_SOURCE_DIR "/tests/golden", FPRNN_SOURCE_DIR "/tests/data"})
    for (const auto& entry : fs::directory_iterator(from)) {
      if (entry.path().extension() != ".safetensors") continue;
      INFO(entry.path().string());
      ++files;
      rewrite(entry.path(), folder.file("x"));
      check_same(SafetensorsFile::read(entry.path()), SafetensorsFile::read(folder.file("x")));
    }
  CHECK(files >= 20);
}

TEST_CASE("safetensors: the writer refuses what the reader would") {
  const Context context = test_context();
  const Folder folder;
  SafetensorsWriter writer;
  const Tensor x = random(context, {2}, 1);
  writer.add("x", x);
  writer.add_metadata("k", "v");
  check_refused<ValueError>("unique", [&] { writer.add("x", x); });
  check_refused<ValueError>("unique", [&] { writer.add("x", integers(context, {1}, {1})); });
  check_refused<ValueError>("metadata", [&] { writer.add("__metadata__", x); });
  check_refused<ValueError>("unique", [&] { writer.add_metadata("k", "w"); });
  check_refused<UsageError>("empty", [&] { writer.add("y", Tensor()); });
  for (const char* text :
       {"\xff", "\xc0\x80", "a\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc3"}) {
    check_refused<ValueError>("UTF-8", [&] { writer.add(text, x); });
    check_refused<ValueError>("UTF-8", [&] { writer.add_metadata(text, "v"); });
    check_refused<ValueError>("UTF-8", [&] { writer.add_metadata("l", text); });
  }
  // None of it left a trace.
  writer.write(folder.file("x"));
  const SafetensorsFile file = SafetensorsFile::read(folder.file("x"));
  CHECK(file.entries().size() == 1);
  CHECK(file.metadata() == std::map<std::string, std::string>{{"k", "v"}});

  const std::string vast(100'000'001, 'x');
  check_refused<ValueError>("100 MB", [&] { writer.add(vast, x); });
  check_refused<ValueError>("100 MB", [&] { writer.add_metadata("l", vast); });
  CHECK(SafetensorsFile::read(folder.file("x")).entries().size() == 1);
  CHECK(listing(folder.path()) == std::vector<std::string>{"x"});
}

TEST_CASE("safetensors: a write that fails at any byte leaves the file that was there") {
  const Context context = test_context();
  const Folder folder;
  SafetensorsWriter small;
  small.add("x", random(context, {2}, 1));
  small.write(folder.file("x"));
  const std::string before = file_bytes(folder.file("x"));
  const SafetensorsWriter writer = varied(context);
  writer.write(folder.file("y"));
  const size_t size = file_bytes(folder.file("y")).size();
  for (size_t limit = 0; limit < size; limit += 7) {
    const FileSizeLimit full(limit);
    check_refused<FileError>(folder.file("x"), [&] { writer.write(folder.file("x")); });
  }
  CHECK(file_bytes(folder.file("x")) == before);
  CHECK(listing(folder.path()) == std::vector<std::string>{"x", "y"});
}

}  // namespace fprnn::tests
