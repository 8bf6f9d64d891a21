// Checkpoints that something has happened to: each is refused with a typed error and changes
// nothing, or is a checkpoint that somebody might have saved.
#include <doctest/doctest.h>
#include <fprnn/models/safetensors_writer.h>

#include <functional>

#include "malformed.h"
#include "refused.h"
#include "small_checkpoint.h"

namespace fprnn::tests {

namespace {

namespace fs = std::filesystem;

// A saved checkpoint whose files are changed, and a model that it is loaded into.
struct Victim {
  Folder folder;
  Small saved, loaded{50};
  Live before = loaded.live();
  std::map<std::string, std::string> files = {};

  Victim() {
    saved.step(1);
    save_checkpoint(path(), saved.model, saved.optimiser, some_state());
    for (const char* name : {"model.safetensors", "optimiser.safetensors", "state.json"})
      files[name] = file_bytes(file(name));
  }
  std::string path() const { return folder.file("c"); }
  std::string file(const std::string& name) const { return path() + "/" + name; }
  void restore() const {
    for (const auto& [name, bytes] : files) write_file(file(name), bytes);
  }
  // Back to what it was before anything was loaded.
  void reset() {
    Small fresh(50);
    loaded.optimiser.restore(fresh.optimiser.state());
    for (const auto& [name, parameter] : fresh.model.parameters())
      loaded.model.parameter(name).value = parameter->value;
  }
  // Whether it was loaded; if not, nothing has changed and what was thrown is the library's.
  bool load() {
    try {
      load_checkpoint(path(), loaded.model, &loaded.optimiser);
      reset();
      return true;
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find(path()) != std::string::npos);
      CHECK(loaded.live() == before);
    } catch (const std::exception& error) {
      FAIL_CHECK("not an Error of the library: ", std::string(error.what()));
    }
    return false;
  }
  bool load_with(const std::string& name, const std::string& bytes) {
    write_file(file(name), bytes);
    const bool loaded = load();
    write_file(file(name), files.at(name));
    return loaded;
  }
  // The error's type and part of its text too.
  template <class E>
  void check(const std::string& name, const std::string& bytes, const std::string& fragment) {
    INFO(bytes);
    write_file(file(name), bytes);
    check_refused<E>(fragment, [&] { load_checkpoint(path(), loaded.model, &loaded.optimiser); });
    CHECK(loaded.live() == before);
    write_file(file(name), files.at(name));
  }
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

constexpr const char* kNames[] = {"model.safetensors", "optimiser.safetensors", "state.json"};

}  // namespace

TEST_CASE("checkpoint: a file that is absent, cut at any byte or longer is refused") {
  Victim victim;
  for (const char* name : kNames) {
    INFO(name);
    const std::string& bytes = victim.files[name];
    fs::remove(victim.file(name));
    CHECK(!victim.load());
    fs::create_directory(victim.file(name));
    CHECK(!victim.load());
    fs::remove(victim.file(name));
    // The state's last byte is the end of its line, without which it is whole.
    const size_t whole = bytes.size() - (bytes.back() == '\n' ? 1 : 0);
    for (size_t size = 0; size < whole; ++size) {
      INFO("cut to ", size);
      CHECK(!victim.load_with(name, bytes.substr(0, size)));
    }
    for (const std::string& more : {std::string(1, '\0'), std::string("x"), std::string("{}")})
      CHECK(!victim.load_with(name, bytes + more));
    CHECK(!victim.load_with(name, victim.files[name == kNames[0] ? kNames[1] : kNames[0]]));
  }
  CHECK(victim.load());
}

TEST_CASE("checkpoint: any changed byte leaves files that are loaded or refused") {
  Victim victim;
  int loaded = 0, refused = 0;
  for (const char* name : kNames)
    for (size_t at = 0; at < victim.files[name].size(); ++at)
      for (const int change : {0x01, 0x02, 0x10, 0x20, 0x80, 0xff}) {
        INFO(name, ", byte ", at, " changed by ", change);
        std::string bytes = victim.files[name];
        bytes[at] = static_cast<char>(bytes[at] ^ change);
        ++(victim.load_with(name, bytes) ? loaded : refused);
      }
  // Of tensors every bit may be another, of the state digits and the configuration.
  CHECK(loaded > 6 * 7 * 3 * int64_t{sizeof(real)} - 1);
  CHECK(refused > 6 * 400);
}

TEST_CASE("checkpoint: malformed safetensors files are refused in place of either") {
  Victim victim;
  for (const char* name : {kNames[0], kNames[1]})
    for (const Malformed& file : malformed_files()) {
      INFO(file.rule);
      CHECK(!victim.load_with(name, file.bytes));
    }
}

TEST_CASE("checkpoint: a state whose numbers are others is refused") {
  Victim victim;
  const std::string sound = victim.files["state.json"];
  const auto refused = [&](const std::string& from, const std::string& to,
                           const std::string& fragment) {
    victim.check<FormatError>("state.json", replaced(sound, from, to), fragment);
  };
  for (const char* key : {"format", "step", "seed", "stream", "cursor", "skipped", "seconds",
                          "real", "configuration"}) {
    const std::string quoted = '"' + std::string(key) + '"';
    refused(quoted, "\"other\"", key == std::string("configuration") ? "other" : key);
    refused(quoted, quoted + ": 0, " + quoted, "twice");
    for (const char* value : {"null", "true", "[]", "[1]", "-1", "-0", "-1.5", "1e999", "NaN"})
      refused(quoted + ":", quoted + ": " + value + ", \"was\":", "");
  }
  for (const char* value : {"0", "null", "{}"})
    refused("\"step\"", "\"data\": " + std::string(value) + ", \"step\"", "");
  for (const char* key : {"step", "seed", "stream", "cursor", "skipped"}) {
    const size_t begin = sound.find('"' + std::string(key) + "\": ");
    const std::string line = sound.substr(begin, sound.find(',', begin) - begin);
    const std::string field = '"' + std::string(key) + "\": ";
    for (const char* value :
         {"1.0", "1e0", "\"1\"", "{}", "18446744073709551616", "01", "+1", "0x1"})
      refused(line, field + value, "");
  }
  for (const char* key : {"step", "cursor", "skipped"}) {
    const size_t begin = sound.find('"' + std::string(key) + "\": ");
    const std::string line = sound.substr(begin, sound.find(',', begin) - begin);
    refused(line, '"' + std::string(key) + "\": 9007199254740993", "2^53");
  }
}

TEST_CASE("checkpoint: a state that breaks its form is refused, each for its own reason") {
  Victim victim;
  const std::string sound = victim.files["state.json"];
  const auto refused = [&](const std::string& from, const std::string& to,
                           const std::string& fragment) {
    victim.check<FormatError>("state.json", replaced(sound, from, to), fragment);
  };
  refused("\"format\": 1", "\"format\": 2", "format must be 1");
  refused("\"seconds\": 0.1", "\"seconds\": \"0.1\"", "type");
  refused("\"seconds\": 0.1", "\"seconds\": -0.1", "negative");
  refused("\"real\": \"", "\"real\": \"x", "float");
  refused("\"format\": 1", "\"format\": 1, \"extra\": 1", "extra");
  refused("\"format\": 1", "\"format\": 1, \"configuration\": {}", "twice");
  refused("\"format\": 1", "\"format\": {}", "");
  refused("\"lr\": \"0.001\"", "\"lr\": \"0.001\", \"lr\": \"0.001\"", "twice");
  for (const char* value : {"0.001", "1", "null", "true", "{}", "[]", "[\"0.001\"]"})
    refused("\"0.001\"", value, "");
  refused("\"configuration\": {", "\"configuration\": \"\", \"was\": {", "");
}

TEST_CASE("checkpoint: what is no state at all is refused, and white space is none of it") {
  Victim victim;
  const std::string sound = victim.files["state.json"];
  const std::string nul(1, '\0');
  for (const std::string& text :
       {std::string(), std::string("{}"), std::string("[]"), std::string("1"), std::string("null"),
        " " + sound, "\xef\xbb\xbf" + sound, sound + nul, sound + "{}", "[" + sound + "]",
        "{\"a\":" + sound + "}", std::string("{\"format\":1}"), std::string(100'000, '{'),
        "{\"a\":" + std::string(100'000, '['), "// comment\n" + sound, sound + "// comment"})
    victim.check<FormatError>("state.json", text, "");
  victim.check<FileError>("state.json", std::string((16 << 20) + 1, ' '), "larger");
  // What is still sound: white space, the order of keys, whole seconds.
  CHECK(victim.load_with("state.json", replaced(sound, "\"seconds\": 0.1", "\"seconds\":\t7")));
  CHECK(victim.load_with("state.json", sound + " \n"));
}

TEST_CASE("checkpoint: tensors that are not exactly the model's are refused by name") {
  Victim victim;
  const Context& context = victim.saved.context;
  using Tensors = std::map<std::string, Tensor>;
  const auto refused = [&](const char* file, const std::string& metadata, const Tensors& tensors,
                           const std::string& fragment) {
    SafetensorsWriter writer;
    if (!metadata.empty()) writer.add_metadata("steps", metadata);
    for (const auto& [name, tensor] : tensors) writer.add(name, tensor);
    writer.write(victim.folder.file("t"));
    victim.check<FormatError>(file, file_bytes(victim.folder.file("t")), fragment);
  };
  const Tensor weight = random(context, {2, 3}, 1), scale = random(context, {}, 2);
  const Tensors sound{{"weight", weight}, {"scale", scale}};
  const Tensors moments{{"mean.weight", weight},
                        {"variance.weight", weight},
                        {"mean.scale", scale},
                        {"variance.scale", scale}};
  const auto with = [](Tensors tensors, const std::string& name, const Tensor& tensor) {
    tensors[name] = tensor;
    return tensors;
  };
  for (const auto& [name, tensor] : sound) {
    Tensors less = sound;
    less.erase(name);
    refused(kNames[0], "", less, "'" + name + "'");
    less["Weight"] = tensor;
    refused(kNames[0], "", less, "'" + name + "'");
    for (const Shape& shape : {Shape{3, 2}, Shape{6}, Shape{1}, Shape{2, 3, 1}, Shape{0}})
      refused(kNames[0], "", with(sound, name, random(context, shape, 1)), "'" + name + "'");
  }
  refused(kNames[0], "", with(sound, "surplus", Tensor(context, {0})), "'surplus'");
  for (const auto& [name, tensor] : moments) {
    Tensors less = moments;
    less.erase(name);
    refused(kNames[1], "1", less, "'" + name + "'");
    refused(kNames[1], "1", with(moments, name, random(context, {7}, 1)), "'" + name + "'");
  }
  refused(kNames[1], "1", with(moments, "mean.other", scale), "'mean.other'");
  refused(kNames[1], "", moments, "metadata");
  for (const char* steps :
       {"-1", "+1", "1.0", " 1", "1 ", "01", "x", "9223372036854775808", "9007199254740993", "-0"})
    refused(kNames[1], steps, moments, "steps");
  SafetensorsWriter ints;
  ints.add("weight", IntTensor(context, {2, 3}, std::vector<int32_t>(6)));
  ints.add("scale", scale);
  ints.write(victim.folder.file("t"));
  victim.check<FormatError>(kNames[0], file_bytes(victim.folder.file("t")), "'I32'");
}

// The weights of the other build, as its state and dtypes would say.
TEST_CASE("checkpoint: the other real type is refused to go on with and converted to evaluate") {
  Victim victim;
  const std::string ours = kDouble ? "double" : "float", other = kDouble ? "float" : "double";
  const std::string state = replaced(victim.files["state.json"], ours, other);
  victim.check<ValueError>("state.json", state, other);
  write_file(victim.file("state.json"), state);
  const auto load = [&] { load_checkpoint(victim.path(), victim.loaded.model, nullptr); };
  check_refused<FormatError>("real type", load);  // the tensors are not of it
  CHECK(victim.loaded.live() == victim.before);

  std::string header = R"({"weight":{"dtype":"D","shape":[2,3],"data_offsets":[0,N]},)"
                       R"("scale":{"dtype":"D","shape":[],"data_offsets":[N,M]}})";
  const int width = kDouble ? 4 : 8;
  for (const auto& [from, to] :
       std::map<std::string, std::string>{{"\"D\"", kDouble ? R"("F32")" : R"("F64")"},
                                          {"N", std::to_string(6 * width)},
                                          {"M", std::to_string(7 * width)}})
    for (size_t at = 0; (at = header.find(from)) != std::string::npos;)
      header.replace(at, from.size(), to);
  std::string data;
  for (int i = 0; i < 7; ++i) {
    const double wide = 0.5 * i;
    const float narrow = 0.5F * static_cast<float>(i);
    data.append(
        kDouble ? reinterpret_cast<const char*>(&narrow) : reinterpret_cast<const char*>(&wide),
        width);
  }
  write_file(victim.file("model.safetensors"), safetensors_bytes(header, data));
  load();
  CHECK(victim.loaded.live().values == Values{{0, 0.5, 1, 1.5, 2, 2.5}, {3}});
  CHECK(same_bits(victim.loaded.live().moments, victim.before.moments));
}

TEST_CASE("checkpoint: beyond the byte limit nothing is loaded and nothing changes") {
  const Folder folder;
  struct Large : Module {
    explicit Large(const Context& context, int64_t size) {
      add_parameter("a", random(context, {size}, 1));
      add_parameter("b", random(context, {size}, 2));
    }
  };
  const int64_t size = 1 << 16;
  const Context free = context_with(1);
  Large saved(free, size);
  const AdamW optimiser(saved.parameters(), {});
  save_checkpoint(folder.file("c"), saved, optimiser, some_state());
  for (int64_t room = 0; room < 6; ++room) {
    INFO(room, " tensors more");
    const Context context = context_with(1, (6 + room) * size * int64_t{sizeof(real)} + 4096);
    Large loaded(context, size);
    AdamW other(loaded.parameters(), {});
    const Live before(loaded, other);
    CHECK_THROWS_AS(load_checkpoint(folder.file("c"), loaded, &other), MemoryError);
    CHECK(Live(loaded, other) == before);
  }
}

}  // namespace fprnn::tests
