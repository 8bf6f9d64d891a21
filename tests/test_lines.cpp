// Files that grow by lines, folders that are held, and what of a text people see.
#include <doctest/doctest.h>
#include <fprnn/core/check.h>
#include <fprnn/core/file.h>
#include <fprnn/core/text.h>
#include <sys/wait.h>
#include <unistd.h>

#include "folder.h"
#include "refused.h"

namespace fprnn::tests {

namespace {

namespace fs = std::filesystem;
using Lines = std::vector<std::string>;

Lines lines_of(const std::string& path, int64_t longest = 1 << 20) {
  Lines lines;
  for_each_line(path, longest, [&](std::string_view line) { lines.emplace_back(line); });
  return lines;
}

}  // namespace

TEST_CASE("lines: a file is read line by line, without what a kill cut off") {
  const Folder folder;
  const std::string path = folder.file("lines");
  using Case = std::pair<std::string, Lines>;
  for (const Case& each :
       {Case{"", {}}, Case{"a", {}}, Case{"\n", {""}}, Case{"a\n\nb\nc", {"a", "", "b"}}})
    CHECK(lines_of(write_file(path, each.first)) == each.second);
  // Ends at, before and behind the borders of what is read at once.
  Lines lines;
  std::string text;
  for (const int size : {65535, 0, 65536, 1, 65534, 65535, 65537, 200'000, 3}) {
    lines.emplace_back(size, static_cast<char>('a' + size % 26));
    text += lines.back() + "\n";
  }
  CHECK(lines_of(write_file(path, text)) == lines);
  CHECK(lines_of(path, 200'000) == lines);
  check_refused<FileError>("8 and 199999", [&] { lines_of(path, 199'999); });
  check_refused<FileError>("2 and 9", [&] { lines_of(write_file(path, "a\n0123456789"), 9); });
  check_refused<FileError>("nowhere", [&] { lines_of(folder.file("nowhere")); });
  check_refused<FileError>("regular", [] { lines_of("/dev/zero"); });
}

TEST_CASE("lines: a file that is no longer the one that was written is noticed") {
  const Folder folder;
  const std::string path = folder.file("lines"), other = folder.file("other");
  {
    LineFile file(path);
    file.append("a");
    LineFile moved = std::move(file);
    moved.append("b");
    CHECK(file_bytes(path) == "a\nb\n");
  }
  const auto refused = [&](const std::string& rule, const auto& spoil) {
    INFO(rule);
    LineFile file(path);
    file.append("c");
    file.check();
    spoil();
    check_refused<FileError>(rule, [&] { file.check(); });
    check_refused<FileError>(path, [&] { file.append("d"); });
    write_file(path, "a\nb\n");
  };
  refused("nobody else", [&] { LineFile(path).append("x"); });
  refused("nobody else", [&] { fs::resize_file(path, 1); });
  refused("must stay", [&] { fs::remove(path); });
  refused("replaced", [&] {
    fs::copy_file(path, other);
    fs::rename(other, path);
  });
  check_refused<FileError>("nowhere", [&] { LineFile(folder.file("nowhere/lines")); });
}

TEST_CASE("folder lock: one holder at a time, until it ends however it ends") {
  const Folder folder;
  const auto hold = [&] { return FolderLock(folder.path()); };
  {
    FolderLock lock = hold();
    check_refused<UsageError>(folder.path(), hold);
    const FolderLock moved = std::move(lock);
    check_refused<UsageError>(folder.path(), hold);
  }
  hold();
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const FolderLock lock = hold();
    if (write(ready[1], "x", 1) == 1) pause();
    _exit(1);
  }
  char byte = 0;
  REQUIRE(read(ready[0], &byte, 1) == 1);
  check_refused<UsageError>("another program", hold);
  kill(child, SIGKILL);
  REQUIRE(waitpid(child, nullptr, 0) == child);
  hold();
  for (const int end : ready) close(end);
  check_refused<FileError>("nowhere", [&] { FolderLock(folder.file("nowhere")); });
}

TEST_CASE("text: parts between separators, and numbers that are the whole of a text") {
  CHECK(split("", ',') == Lines{""});
  CHECK(split("a,,b,", ',') == Lines{"a", "", "b", ""});
  CHECK(number_in<int64_t>("-7") == -7);
  CHECK(number_in<double>(".5") == 0.5);
  for (const char* text : {"", " 7", "7x", "+7", "9223372036854775808", "1.0"})
    CHECK_MESSAGE(!number_in<int64_t>(text), text);
}

TEST_CASE("text: what is no UTF-8 shows as '?', a byte each") {
  CHECK(printable("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80") == "é€😀");
  CHECK(printable("\xC0\x80\x80\xE0\x80\x80\xED\xA0\x80\xF4\x90\x80\x80\xFF\xC3") ==
        std::string(15, '?'));
}

TEST_CASE("text: an error's message is one line that moves no cursor") {
  const ValueError error("tag", "rule",
                         std::array<std::string, 1>{"a\nb\x1B[31m\xC2\x9B\xFF\r\u202E é"});
  CHECK(std::string(error.what()) == "[tag] rule, got a\\nb?[31m???? é");
  CHECK(printable_lines("a\n\tb\n") == "a\n?b\n");
}

}  // namespace fprnn::tests
