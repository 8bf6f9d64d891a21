#include "program.h"

#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>

namespace learn {

int run(int argc, char** argv, const std::vector<Section>& sections,
        const std::vector<Figure>& figures) try {
  if (argc > 2) {
    std::fprintf(stderr, "usage: %s [FOLDER-FOR-FIGURES]\n", argv[0]);
    return 2;
  }
  for (const Section& section : sections) {
    std::printf("== %s\n", section.name.c_str());
    section.print();
  }
  if (argc == 2)
    for (const Figure& figure : figures) {
      std::ofstream file;
      file.exceptions(std::ios::failbit | std::ios::badbit);
      file.open(std::filesystem::path(argv[1]) / (figure.name + ".svg"));
      file << figure.draw();
    }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}

}  // namespace learn
