// Texts by name, for a command line.
#pragma once

#include <fprnn/tasks/text.h>

namespace fprnn {

// kjv, what the program `bible` (Debian's bible-kjv) prints of all books; markov or markov:SEED, four
// mebibytes of MarkovText; or files and folders, comma-separated. UsageError, FileError: see Text;
// `bible` is not installed or prints nothing.
Text text_named(const std::string& name);

// The first of these that this machine has: kjv, the folder of the C++ compiler's headers, markov.
std::string default_text();

}  // namespace fprnn
