// People in rooms, and the lines of a story that say where they are.
#pragma once

#include <fprnn/tasks/babi/telling.h>

#include <array>

namespace fprnn::babi {

// The people.
inline const std::array<std::string, 4> kPeople = {"Mary", "John", "Sandra", "Daniel"};
// Rooms by name; numbers elsewhere are places in this list.
inline const std::array<std::string, 6> kRooms = {"bathroom", "bedroom", "garden",
                                                  "hallway",  "kitchen", "office"};
// The room of who has not been anywhere.
inline constexpr size_t kNowhere = kRooms.size();
inline constexpr int kQuestions = 5;  // of a story

// A room, and the lines from which it follows.
struct Stay {
  size_t room = kNowhere;
  Lines lines = {};
};

class People {
 public:
  // Where somebody is.
  const Stay& of(size_t person) const { return stays_[person]; }
  std::vector<size_t> seen() const;  // those who have been anywhere
  // Says that they go to a room where none of them is. `subject` follows from `lines`, which with
  // the new one, that is returned, say where they are now.
  int64_t go(Telling& telling, const std::vector<size_t>& who, const std::string& subject,
             Lines lines = {});

 private:
  std::array<Stay, kPeople.size()> stays_;
};

}  // namespace fprnn::babi
