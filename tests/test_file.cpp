// Files and folders that appear whole or not at all.
#include <doctest/doctest.h>
#include <fprnn/core/check.h>
#include <fprnn/core/file.h>

#include "failures.h"
#include "folder.h"
#include "refused.h"

namespace fprnn::tests {

namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

void write_new(const std::string& path, const std::string& text) {
  OutputFile file(path);
  file.write(text);
  file.finish();
}

// Fills a folder with one file of that text.
void replace_with(const std::string& folder, const std::string& text) {
  replace_folder(folder, [&](const std::string& temporary) { write_new(temporary + "/f", text); });
}

}  // namespace

TEST_CASE("file: what is written is read back, replaced, and leaves no temporary") {
  const Folder folder;
  const std::string path = folder.file("x");
  const std::string nul(3, '\0');
  for (const std::string& text :
       {std::string(), std::string("text\n"), nul, std::string(1 << 20, 'x')}) {
    replace_file(path, text);
    CHECK(read_file(path, 1 << 20) == text);
    CHECK(listing(folder.path()) == Names{"x"});
  }
  check_refused<FileError>("larger", [&] { read_file(path, (1 << 20) - 1); });
  check_refused<FileError>("No such file", [&] { read_file(folder.file("absent"), 10); });
  check_refused<FileError>("regular", [&] { read_file(folder.path(), 10); });
  check_refused<FileError>("regular", [&] { read_file("/dev/zero", 10); });
  const InputFile file(path);
  char byte = 0;
  file.read((1 << 20) - 1, &byte, 1);
  CHECK(byte == 'x');
  check_refused<FileError>("must not end", [&] { file.read(1 << 20, &byte, 1); });
}

TEST_CASE("file: paths are relative, absolute or with slashes at the end") {
  const Folder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  replace_file("x", "relative");
  replace_file("./x", "below");
  replace_with("d", "relative");
  replace_with("d/", "slash");
  replace_with(folder.file("d//"), "slashes");
  fs::current_path(before);
  CHECK(file_bytes(folder.file("x")) == "below");
  CHECK(file_bytes(folder.file("d/f")) == "slashes");
  CHECK(listing(folder.path()) == Names{"d", "d/f", "x"});
  for (const char* path : {"", "/", ".", "..", "a/.", "a/.."}) {
    INFO(path);
    check_refused<FileError>("name", [&] { replace_file(path, ""); });
    check_refused<FileError>("name", [&] { replace_with(path, ""); });
  }
}

TEST_CASE("file: an exception while writing leaves what was there") {
  const Folder folder;
  replace_file(folder.file("x"), "before");
  replace_with(folder.file("d"), "before");
  CHECK_THROWS_AS(replace_file(folder.file("x"),
                               [](OutputFile& file) {
                                 file.write("half");
                                 throw ValueError("test", "stop");
                               }),
                  ValueError);
  CHECK_THROWS_AS(replace_folder(folder.file("d"),
                                 [](const std::string& temporary) {
                                   write_new(temporary + "/f", "half");
                                   throw 1;
                                 }),
                  int);
  CHECK(file_bytes(folder.file("x")) == "before");
  CHECK(file_bytes(folder.file("d/f")) == "before");
  CHECK(listing(folder.path()) == Names{"d", "d/f", "x"});
}

TEST_CASE("file: what the system refuses is an error with its reason") {
  const Folder folder;
  replace_file(folder.file("x"), "before");
  replace_with(folder.file("d"), "before");
  fs::create_directory_symlink("d", folder.file("link"));
  const auto refused = [&](const std::string& name, const std::string& reason) {
    INFO(name);
    check_refused<FileError>(reason, [&] { replace_file(folder.file(name), "new"); });
  };
  refused("absent/x", "No such file or directory");
  refused("x/below", "Not a directory");
  refused("d", "Is a directory");
  refused(std::string(300, 'n'), "File name too long");
  check_refused<FileError>("", [] { replace_file("/proc/fprnn", "new"); });
  for (const char* name : {"absent/d", "x/below", "x", "link"}) {
    INFO(name);
    check_refused<FileError>("directory", [&] { replace_with(folder.file(name), "new"); });
  }
  {
    const FileSizeLimit full(2);
    refused("x", "File too large");
    check_refused<FileError>("File too large", [&] { replace_with(folder.file("d"), "new file"); });
  }
  check_refused<FileError>("exists", [&] { write_new(folder.file("x"), "new"); });
  check_refused<FileError>("No such file", [&] { remove_folder(folder.file("absent")); });
  CHECK(file_bytes(folder.file("x")) == "before");
  CHECK(file_bytes(folder.file("d/f")) == "before");
  CHECK(listing(folder.path()) == Names{"d", "d/f", "link", "x"});
}

TEST_CASE("file: a folder that may not be written stays as it is") {
  const Folder folder;
  fs::create_directory(folder.file("r"));
  replace_file(folder.file("r/x"), "before");
  fs::permissions(folder.path(), fs::perms(0755));
  fs::permissions(folder.file("r"), fs::perms(0555));
  {
    const Unprivileged user;
    if (geteuid() != 0) {
      check_refused<FileError>("Permission denied",
                               [&] { replace_file(folder.file("r/x"), "new"); });
      check_refused<FileError>("Permission denied",
                               [&] { replace_with(folder.file("r/d"), "new"); });
    } else {
      MESSAGE("this user may write anywhere and cannot become another");
    }
  }
  fs::permissions(folder.file("r"), fs::perms(0755));
  CHECK(listing(folder.path()) == Names{"r", "r/x"});
  CHECK(file_bytes(folder.file("r/x")) == "before");
}

TEST_CASE("file: temporaries of killed processes go with the next write of their name") {
  const Folder folder;
  const auto leave = [&] {
    for (const char* name : {"x.tmp-1-0", "d.tmp-77-3", "y.tmp-1-0", "x.tmp-1", "x.tmp-1-0a",
                             "x.tmp--0", "x.tmpl-1-0", ".tmp-1-0", "x.old-1-0", "z.old-1-0"})
      write_file(folder.file(name), "stale");
  };
  leave();
  fs::remove(folder.file("d.tmp-77-3"));
  fs::create_directories(folder.file("d.tmp-77-3/deep"));
  write_file(folder.file("d.tmp-77-3/deep/f"), "stale");
  replace_file(folder.file("x"), "x");
  CHECK(!fs::exists(folder.file("x.tmp-1-0")));
  CHECK(fs::exists(folder.file("x.old-1-0")));  // there was no x yet
  CHECK(fs::exists(folder.file("y.tmp-1-0")));
  CHECK(fs::exists(folder.file("d.tmp-77-3")));
  replace_with(folder.file("d"), "d");
  CHECK(!fs::exists(folder.file("d.tmp-77-3")));
  leave();
  remove_temporaries(folder.path());
  // What only looks like one stays, and so does what was set aside and has not been replaced.
  CHECK(listing(folder.path()) == Names{".tmp-1-0", "d", "d/f", "x", "x.tmp--0", "x.tmp-1",
                                        "x.tmp-1-0a", "x.tmpl-1-0", "z.old-1-0"});
  remove_temporaries(folder.file("absent"));
}

TEST_CASE("file: a folder replaces an absent, an empty or a full one") {
  const Folder folder;
  const std::string path = folder.file("d");
  replace_with(path, "first");
  CHECK(file_bytes(path + "/f") == "first");
  write_file(path + "/more", "");
  fs::create_directories(path + "/deep/er");
  replace_with(path, "second");
  CHECK(file_bytes(path + "/f") == "second");
  fs::remove(path + "/f");
  replace_with(path, "third");
  CHECK(listing(folder.path()) == Names{"d", "d/f"});
  remove_folder(path);
  CHECK(listing(folder.path()).empty());
}

}  // namespace fprnn::tests
