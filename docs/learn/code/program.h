// What the chapters' programs share: their output in named sections, and their figures.
//
// Output and figures are compared with those in the text by a test, on every machine, in float and in
// double. So a program prints few digits, counts and shapes, never a time, and draws what it has
// computed in double.
#pragma once

#include <string>
#include <vector>

namespace learn {

struct Section {
  std::string name;
  void (*print)();  // what stands under the line "== name"
};
struct Figure {
  std::string name;       // of the file NAME.svg; begins with that of the program
  std::string (*draw)();  // the file's text
};

// main of every program: prints the sections and, into the folder that is its one argument if there
// is one, draws the figures. Returns the exit code: 1 after an error, whose message it prints, 2
// where there is more than one argument.
int run(int argc, char** argv, const std::vector<Section>& sections,
        const std::vector<Figure>& figures = {});

}  // namespace learn
