#include <fprnn/tasks/babi/world.h>

namespace fprnn::babi {

namespace {

const std::array<std::string, 4> kMoves = {"moved to", "went to", "journeyed to", "travelled to"};
const std::array<std::string, 4> kAfter = {"Then", "Afterwards", "After that", "Following that"};

const char* pronoun(size_t person) { return person % 2 == 0 ? "she" : "he"; }

// Two lines.
void walk(int64_t task, Telling& telling, People& people) {
  const auto someone = [&] { return telling.below(kPeople.size()); };
  if (task == 11) {
    const size_t p = someone();
    const int64_t line = people.go(telling, {p}, kPeople[p]);
    people.go(telling, {p}, telling.one_of(kAfter) + " " + pronoun(p), {line});
  } else if (task == 13) {
    const size_t p = someone(), q = (p + 1 + telling.below(kPeople.size() - 1)) % kPeople.size();
    const int64_t line = people.go(telling, {p, q}, kPeople[p] + " and " + kPeople[q]);
    people.go(telling, {p, q}, telling.one_of(kAfter) + " they", {line});
  } else {
    for (int i = 0; i < 2; ++i) {
      const size_t p = someone();
      people.go(telling, {p}, kPeople[p]);
    }
  }
}

}  // namespace

std::vector<size_t> People::seen() const {
  std::vector<size_t> all;
  for (size_t p = 0; p < kPeople.size(); ++p)
    if (stays_[p].room != kNowhere) all.push_back(p);
  return all;
}

int64_t People::go(Telling& telling, const std::vector<size_t>& who, const std::string& subject,
                   Lines lines) {
  size_t room = telling.below(kRooms.size());
  const auto is_there = [&](size_t p) { return stays_[p].room == room; };
  while (std::ranges::any_of(who, is_there)) room = telling.below(kRooms.size());
  const int64_t line = telling.say(subject + " " + telling.one_of(kMoves) + " the " + kRooms[room]);
  lines.push_back(line);
  for (const size_t p : who) stays_[p] = {room, lines};
  return line;
}

void tell_of_people(int64_t task, Telling& telling) {
  People people;
  for (int i = 0; i < kQuestions; ++i) {
    walk(task, telling, people);
    const size_t p = telling.one_of(people.seen());
    const auto& [room, lines] = people.of(p);
    if (task != 6) {
      telling.ask("Where is " + kPeople[p], kRooms[room], lines);
      continue;
    }
    const size_t other = (room + 1 + telling.below(kRooms.size() - 1)) % kRooms.size();
    const size_t asked = telling.one_in(2) ? room : other;
    telling.ask("Is " + kPeople[p] + " in the " + kRooms[asked], asked == room ? "yes" : "no",
                lines);
  }
}

}  // namespace fprnn::babi
