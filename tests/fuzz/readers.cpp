// A reader of files under libFuzzer: FUZZED names one of the functions below. What is refused is refused by an
// exception of ours; what is taken is written and read again, and must be the same.
#include <fprnn/core/check.h>
#include <fprnn/core/settings.h>
#include <fprnn/models/checkpoint_state.h>
#include <fprnn/models/safetensors.h>
#include <fprnn/tasks/babi/stories.h>
#include <fprnn/tasks/report/record.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace fprnn::fuzz {

void must(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

// Written and read again twice: the second text is the first.
template <class Read>
void same_again(const std::string& text, const Read& read) {
  const std::string once = to_json(read(text, "input"));
  must(to_json(read(once, "again")) == once, "what was taken is not written as it was read");
}

void state(const std::string& text) { same_again(text, checkpoint_state_from_json); }
void metrics(const std::string& text) { same_again(text, step_metrics_from_json); }
void evaluation(const std::string& text) { same_again(text, evaluation_from_json); }

void safetensors(const std::string& text) {
  static const std::string path = [] {
    std::string folder = std::filesystem::temp_directory_path() / "fprnn-fuzz-XXXXXX";
    must(mkdtemp(folder.data()) != nullptr, "there is no temporary folder");
    return folder + "/model.safetensors";
  }();
  static const Context context = Context::cpu({.threads = 1, .byte_limit = int64_t{1} << 26});
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
  const SafetensorsFile file = SafetensorsFile::read(path);
  for (const SafetensorsEntry& entry : file.entries()) try {
      if (entry.dtype.starts_with('F'))
        file.tensor(context, entry.name);
      else
        file.ints(context, entry.name);
    } catch (const Error&) {
    }
}

// Settings of every type.
struct Values {
  int64_t whole = 1;
  uint64_t seed = 2;
  double number = .5;
  bool is_on = false;
  std::string name = "a", choice = "a", action;
  std::vector<int64_t> list = {1, 2};
  Settings settings;

  Values() {
    settings.title("Model", Decides::model);
    settings.add("whole", whole, "help");
    settings.add("seed", seed, "help");
    settings.add("number", number, "help");
    settings.add("is_on", is_on, "help");
    settings.add("name", name, "help");
    settings.add("choice", choice, "help", {"a", "b"});
    settings.add("list", list, "help");
    settings.title("Action", Decides::action);
    settings.add("action", action, "help");
  }
};
void config(const std::string& text) {
  Values first, second;
  first.settings.set_json(text, "input");
  const std::string once = first.settings.to_json();
  second.settings.set_json(once, "again");
  must(second.settings.to_json() == once, "what was taken is not written as it was read");
}

// Stories as lines: a line ends at `.`, or behind the answer to a `?`.
std::string text_of(const babi::Stories& stories) {
  std::string text;
  for (const babi::Story& story : stories.of(babi::Part::valid)) {
    int line = 0;
    std::string_view before = ".";
    for (const int32_t id : story.words) {
      const std::string& word = stories.vocabulary()[id];
      const bool answers = before == "?";
      if (before == ".") text += std::to_string(++line) + " ";
      text += (answers ? "\t" : " ") + word + (answers || word == "." ? "\n" : "");
      before = answers ? std::string_view(".") : std::string_view(word);
    }
  }
  return text;
}
void stories(const std::string& text) {
  const auto read = [](const std::string& of) {
    const babi::File file = {.task = 1, .part = babi::Part::valid, .source = "input", .text = of};
    return text_of(babi::Stories({&file, 1}));
  };
  const std::string once = read(text);
  must(read(once) == once, "what was taken is not written as it was read");
}

}  // namespace fprnn::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    fprnn::fuzz::FUZZED({reinterpret_cast<const char*>(data), size});
  } catch (const fprnn::Error&) {
  }
  return 0;
}
