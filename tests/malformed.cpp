// A corpus of safetensors files that break one rule each; see interface.md, section 4.
#include "malformed.h"

#include <cstdint>

namespace fprnn::tests {

namespace {

std::string length_bytes(uint64_t length) {
  return std::string(reinterpret_cast<const char*>(&length), 8);
}

// The fields of a sound tensor, one of which each case replaces.
constexpr const char* kDtype = R"("dtype":"F32")";
constexpr const char* kShape = R"("shape":[2])";
constexpr const char* kOffsets = R"("data_offsets":[0,8])";
const std::string kData = "01234567";

std::string tensor(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return "{" + dtype + "," + shape + "," + offsets + "}";
}

class Corpus {
 public:
  std::vector<Malformed> files;

  void file(const std::string& rule, const std::string& bytes) { files.push_back({rule, bytes}); }
  void header(const std::string& header, const std::string& data = "") {
    file(header.substr(0, 100), safetensors_bytes(header, data));
  }
  void a(const std::string& value, const std::string& data = kData) {
    header(R"({"a":)" + value + "}", data);
  }
  void dtype(const std::string& value) { a(tensor(R"("dtype":)" + value, kShape, kOffsets)); }
  void shape(const std::string& value, const std::string& data = kData) {
    a(tensor(kDtype, R"("shape":)" + value,
             R"("data_offsets":[0,)" + std::to_string(data.size()) + "]"),
      data);
  }
  void offsets(const std::string& value) {
    a(tensor(kDtype, kShape, R"("data_offsets":)" + value));
  }
  // Two tensors of one byte each, "a" and "b".
  void pair(const std::string& a, const std::string& b, const std::string& data = "01") {
    const auto byte = [](const std::string& offsets) {
      return R"({"dtype":"U8","shape":[1],"data_offsets":)" + offsets + "}";
    };
    header(R"({"a":)" + byte(a) + R"(,"b":)" + byte(b) + "}", data);
  }
  void metadata(const std::string& value) { header(R"({"__metadata__":)" + value + "}"); }
};

void add_lengths(Corpus& c) {
  c.file("no byte", "");
  c.file("seven bytes", std::string(7, '\0'));
  c.file("a header of no bytes", length_bytes(0));
  c.file("a header of no bytes before {}", length_bytes(0) + "{}");
  c.file("a header one byte beyond the file", length_bytes(3) + "{}");
  c.file("a header of 100 MB in a short file", length_bytes(100'000'000) + "{}");
  c.file("a header of 4 GB", length_bytes(uint64_t{1} << 32) + "{}");
  for (const uint64_t length : {(uint64_t{1} << 63) - 1, uint64_t{1} << 63, (uint64_t{1} << 63) + 2,
                                ~uint64_t{0}, ~uint64_t{0} - 7, ~uint64_t{0} - 5})
    c.file("a header of about 2^63 or 2^64 bytes", length_bytes(length) + "{}");
  c.file("a header that ends inside the JSON", length_bytes(1) + "{}");
}

void add_json(Corpus& c) {
  for (const char* text :
       {"not JSON", "{",      "}",        "[]",        "null", "true",
        "1",        R"("a")", R"({"a"})", R"({"a":})", "{,}",  R"({"__metadata__":{},})",
        "{'a':{}}", "{a:{}}", "{}{}",     "{}x",       "{},",  "{}]",
        "{/**/}",   "{}//",   "{}#"})
    c.header(text);
  for (const char* space : {" ", "\n", "\t", "\xef\xbb\xbf", "\v"})
    c.header(space + std::string("{}"));
  for (const char* space : {"\v", "\f", "\xc2\xa0", "\x1a"}) {
    c.header(std::string("{}") + space);
    c.header(std::string("{") + space + "}");
  }
  const std::string nul(1, '\0');
  c.header(nul + "{}");
  c.header("{}" + nul);
  c.header("{}" + nul + R"({"a":1})");
  c.header("{" + nul + "}");
  c.header(R"({"__metadata__":{"a)" + nul + R"(":"b"}})");
  for (const char* text : {"\xff", "\xc0\x80", "\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc3",
                           "\xe2\x82", "\n", "\x01", "\\x", "\\ud800", "\\udc00\\ud800", "\\u12"}) {
    c.metadata(R"({"k":")" + std::string(text) + "\"}");
    c.header("{\"" + std::string(text) + "\":" + tensor(kDtype, kShape, kOffsets) + "}", kData);
  }
}

void add_structure(Corpus& c) {
  const std::string sound = tensor(kDtype, kShape, kOffsets);
  const std::string empty = R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  for (const char* value :
       {"null", "true", "1", "-1", "1.5", R"("F32")", "[]", "{}", R"([{"dtype":"F32"}])"})
    c.a(value, "");
  c.header(R"({"a":)" + empty + R"(,"a":)" + empty + "}");
  c.header(R"({"a":)" + empty + R"(,"\u0061":)" + empty + "}");
  c.header(R"({"__metadata__":{},"__metadata__":{}})");
  c.metadata(R"({"k":"v","k":"v"})");
  c.a(R"({"dtype":"F32","shape":[2]})");
  c.a(R"({"dtype":"F32","data_offsets":[0,8]})");
  c.a(R"({"shape":[2],"data_offsets":[0,8]})");
  for (const char* field : {kDtype, kShape, kOffsets, R"("device":"cpu")", R"("strides":[1])",
                            R"("Dtype":"F32")", R"("":{})", R"("extra":null)"})
    c.a(sound.substr(0, sound.size() - 1) + "," + field + "}");
  c.a(R"({"shape":[2],"data_offsets":[0,8],"dtypE":"F32"})");

  std::string deep;
  for (int depth = 0; depth < 100'000; ++depth) deep += '[';
  c.header("{\"a\":" + deep);
  c.shape(deep);
  std::string objects;
  for (int depth = 0; depth < 100'000; ++depth) objects += R"({"a":)";
  c.header(objects);
  c.metadata(objects);

  for (const char* value :
       {"null", "1", "true", R"("k")", "[]", R"([{"k":"v"}])", R"({"k":1})", R"({"k":null})",
        R"({"k":true})", R"({"k":[]})", R"({"k":["v"]})", R"({"k":{}})", R"({"k":{"l":"v"}})",
        R"({"shape":[1]})", R"({"k":1e999})"})
    c.metadata(value);
}

void add_values(Corpus& c) {
  for (const char* value :
       {R"("F8")", R"("f32")", R"("")", R"("F32 ")", R"(" F32")", R"("F32\u0000")", R"("float32")",
        R"("C64")", "4", "null", "true", R"(["F32"])", "{}"})
    c.dtype(value);
  for (const char* value : {"2",
                            R"("2")",
                            "null",
                            "{}",
                            R"({"0":2})",
                            R"(["2"])",
                            "[null]",
                            "[true]",
                            "[[2]]",
                            "[{}]",
                            "[2",
                            "[2,]",
                            "[,2]",
                            "[2 1]",
                            "[-2]",
                            "[-1,-2]",
                            "[2.0]",
                            "[2e0]",
                            "[2E0]",
                            "[0.2e1]",
                            "[02]",
                            "[+2]",
                            "[0x2]",
                            "[NaN]",
                            "[Infinity]",
                            "[1e999]",
                            "[18446744073709551618]",
                            "[99999999999999999999999999999999999999999]",
                            "[1,1,1,1,1,1,1,1,2]",
                            "[3]",
                            "[1]",
                            "[0]",
                            "[]",
                            "[2,0]"})
    c.shape(value);
  // Products that wrap round to the bytes that are there.
  for (const char* value :
       {"[4294967296,4294967296]", "[4611686018427387904]", "[9223372036854775808]",
        "[9223372036854775807,2]", "[3,0,9223372036854775807]", "[2147483648,2147483648,4]",
        "[3037000500,3037000500]", "[4611686018427387904,4,0]", "[-0]",
        "[65536,65536,65536,65536]"})
    c.shape(value, "");
  c.shape("[4611686018427387906]");

  for (const char* value : {"8",
                            "null",
                            R"("0,8")",
                            "{}",
                            "[]",
                            "[8]",
                            "[0,8,8]",
                            "[0,0,8]",
                            R"([0,"8"])",
                            "[0,null]",
                            "[[0,8]]",
                            "[0,8.0]",
                            "[0,8e0]",
                            "[0.0,8]",
                            "[-0,8]",
                            "[-8,0]",
                            "[0,-8]",
                            "[0,+8]",
                            "[00,8]",
                            "[8,0]",
                            "[1,9]",
                            "[0,7]",
                            "[0,9]",
                            "[0,16]",
                            "[4,8]",
                            "[0,4]",
                            "[8,16]",
                            "[0,9223372036854775807]",
                            "[0,9223372036854775808]",
                            "[0,18446744073709551615]",
                            "[0,18446744073709551624]",
                            "[18446744073709551608,0]",
                            "[9223372036854775800,0]",
                            "[9223372036854775807,9223372036854775807]",
                            "[1e999,8]"})
    c.offsets(value);
}

void add_layout(Corpus& c) {
  c.pair("[1,2]", "[2,3]", "012");  // a hole at the start
  c.pair("[0,1]", "[2,3]", "012");  // in the middle
  c.pair("[0,1]", "[1,2]", "012");  // trailing bytes
  c.pair("[0,1]", "[1,2]", "0");    // a byte too few
  c.pair("[0,1]", "[0,1]");         // both the same
  c.pair("[0,1]", "[0,1]", "0");
  c.pair("[0,1]", "[1,1]", "0");
  c.pair("[0,2]", "[1,2]");  // overlapping
  c.pair("[0,1]", "[2,1]", "0");
  c.pair("[1,2]", "[1,0]");
  c.header("{}", "0");
  c.metadata("{}");
  c.files.back().bytes += '0';
  // Empty tensors are checked as others are.
  for (const char* value :
       {R"({"dtype":"F32","shape":[0],"data_offsets":[0,1]})",
        R"({"dtype":"F32","shape":[0],"data_offsets":[1,1]})",
        R"({"dtype":"F32","shape":[0],"data_offsets":[1,0]})",
        R"({"dtype":"F31","shape":[0],"data_offsets":[0,0]})",
        R"({"dtype":"F32","shape":[],"data_offsets":[0,0]})",
        R"({"dtype":"F32","shape":[1],"data_offsets":[0,0]})",
        R"({"dtype":"F32","shape":[0,0,0,0,0,0,0,0,0],"data_offsets":[0,0]})"}) {
    c.a(value, "");
    c.a(value, "0");
  }
}

}  // namespace

std::string safetensors_bytes(const std::string& header, const std::string& data) {
  return length_bytes(header.size()) + header + data;
}

std::string sound_file() {
  return safetensors_bytes(R"({"a":)" + tensor(kDtype, kShape, kOffsets) + "}", kData);
}

std::vector<Malformed> malformed_files() {
  Corpus corpus;
  add_lengths(corpus);
  add_json(corpus);
  add_structure(corpus);
  add_values(corpus);
  add_layout(corpus);
  return corpus.files;
}

}  // namespace fprnn::tests
