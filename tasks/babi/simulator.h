// Files of bAbI's form made from a seed: four people walk between six rooms, take three things and drop
// them. Stories of a task ask what bAbI's task of that number asks:
//    1  Where is Mary?                             the room that she went to last
//    2  Where is the milk?                         the room of who has it, or where it was dropped
//    3  Where was the milk before the garden?      the room before its last stay there
//    6  Is Mary in the garden?                     yes, no
//    7  How many objects is Mary carrying?         none, one, two, three
//    8  What is Mary carrying?                     nothing, or things in the order taken: milk,apple
//   11  as 1, with "then she went to the garden"
//   13  as 1, of two people: "then they went to the garden"
//   15  What is Gertrude afraid of?                Gertrude is a mouse. Mice are afraid of wolves.
//   19  How do you go from the garden to the office?   e,n: two steps by the neighbours named, which
//                                                  are joined in one way only
// Who has not been anywhere yet, or has touched nothing, is not asked about. The lines that an answer
// follows from stand behind it, as in bAbI.
#pragma once

#include <fprnn/tasks/babi/files.h>

namespace fprnn::babi {

// The tasks that can be simulated.
inline constexpr std::array<int64_t, 10> kSimulated = {1, 2, 3, 6, 7, 8, 11, 13, 15, 19};

struct SimulatorOptions {
  std::vector<int64_t> tasks = {kSimulated.begin(), kSimulated.end()};  // of kSimulated
  int64_t stories =
      1000;  // of train, a task; valid and test have a tenth as many each, one at least
  uint64_t seed = 0;
};

// The files of read_folder, a pure function of the options; no story is there twice. ValueError: a
// task that is not simulated or is named twice, or stories outside 1 to 100,000.
std::vector<File> simulated(const SimulatorOptions& options);

}  // namespace fprnn::babi
