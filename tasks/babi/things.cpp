#include <fprnn/tasks/babi/world.h>

#include <numeric>

namespace fprnn::babi {

namespace {

const std::array<std::string, 3> kThings = {"apple", "football", "milk"};
const std::array<std::string, 4> kTakes = {"took", "got", "grabbed", "picked up"};
const std::array<std::string, 4> kDrops = {"dropped", "left", "discarded", "put down"};
const std::array<std::string, 4> kNumbers = {"none", "one", "two", "three"};

struct Thing {
  size_t room;                   // also before a line says so
  size_t at;                     // in what a story calls it
  bool carried = false;          // by somebody
  int64_t taken = 0;             // the line
  std::vector<Stay> stays = {};  // since it was first taken, neighbours in different rooms
};

// Which stay of the thing `before` asks about: the last one in its room, and not the first of all.
std::vector<size_t> later_stays(const Thing& thing) {
  std::vector<size_t> later;
  for (size_t i = 1; i < thing.stays.size(); ++i) {
    const auto same = [&](const Stay& stay) { return stay.room == thing.stays[i].room; };
    if (std::none_of(thing.stays.begin() + i + 1, thing.stays.end(), same)) later.push_back(i);
  }
  return later;
}

class Household {
 public:
  explicit Household(Telling& telling) : telling_(telling) {
    const std::array<size_t, 2> rooms = {telling.below(kRooms.size()),
                                         telling.below(kRooms.size())};
    for (size_t i = 0; i < kThings.size(); ++i)
      things_.push_back({.room = telling.one_of(rooms), .at = i});
    actors_.resize(kPeople.size());
    std::iota(actors_.begin(), actors_.end(), 0);
    telling.shuffle(actors_);
    actors_.resize(2 + telling.below(kPeople.size() - 1));
  }

  // Somebody takes something, drops something or goes.
  void act() {
    const size_t p = telling_.one_of(actors_);
    std::vector<Thing*> near;
    for (Thing& thing : things_)
      if (!thing.carried && thing.room == people_.of(p).room) near.push_back(&thing);
    if (!near.empty() && !telling_.one_in(4))
      take(p, *telling_.one_of(near));
    else if (!carried_[p].empty() && telling_.one_in(4))
      drop(p, telling_.below(carried_[p].size()));
    else
      go(p);
  }

  // Whether there is something to ask; if so, it is asked.
  bool ask(int64_t task) {
    return task == 2 || task == 3 ? ask_of_thing(task) : ask_of_person(task);
  }

 private:
  void take(size_t p, Thing& thing) {
    thing.taken = say(p, kTakes, thing);
    thing.carried = true;
    carried_[p].push_back(&thing);
    if (!thing.stays.empty()) return;
    thing.stays.push_back(people_.of(p));
    thing.stays.back().lines.push_back(thing.taken);
  }

  void drop(size_t p, size_t i) {
    Thing& thing = *carried_[p][i];
    thing.stays.back().lines.push_back(say(p, kDrops, thing));
    thing.carried = false;
    carried_[p].erase(carried_[p].begin() + i);
  }

  void go(size_t p) {
    const int64_t line = people_.go(telling_, {p}, kPeople[p]);
    for (Thing* thing : carried_[p]) {
      thing->room = people_.of(p).room;
      thing->stays.push_back({thing->room, {thing->taken, line}});
    }
  }

  int64_t say(size_t p, const std::array<std::string, 4>& verbs, const Thing& thing) {
    const int64_t line =
        telling_.say(kPeople[p] + " " + telling_.one_of(verbs) + " the " + kThings[thing.at]);
    handled_[p].push_back(line);
    return line;
  }

  bool ask_of_thing(int64_t task) {
    std::vector<const Thing*> known;
    for (const Thing& thing : things_)
      if (task == 2 ? !thing.stays.empty() : !later_stays(thing).empty()) known.push_back(&thing);
    if (known.empty()) return false;
    const Thing& thing = *telling_.one_of(known);
    const std::string& name = kThings[thing.at];
    if (task == 2) {
      const auto& [room, lines] = thing.stays.back();
      telling_.ask("Where is the " + name, kRooms[room], lines);
      return true;
    }
    const size_t i = telling_.one_of(later_stays(thing));
    Lines lines = thing.stays[i].lines;
    lines.insert(lines.end(), thing.stays[i - 1].lines.begin(), thing.stays[i - 1].lines.end());
    telling_.ask("Where was the " + name + " before the " + kRooms[thing.stays[i].room],
                 kRooms[thing.stays[i - 1].room], lines);
    return true;
  }

  bool ask_of_person(int64_t task) {
    std::vector<size_t> busy;
    for (size_t p = 0; p < kPeople.size(); ++p)
      if (!handled_[p].empty()) busy.push_back(p);
    if (busy.empty()) return false;
    const size_t p = telling_.one_of(busy);
    std::string list;
    for (const Thing* thing : carried_[p]) list += (list.empty() ? "" : ",") + kThings[thing->at];
    if (task == 7)
      telling_.ask("How many objects is " + kPeople[p] + " carrying", kNumbers[carried_[p].size()],
                   handled_[p]);
    else
      telling_.ask("What is " + kPeople[p] + " carrying", list.empty() ? "nothing" : list,
                   handled_[p]);
    return true;
  }

  Telling& telling_;
  People people_;
  std::vector<size_t> actors_;  // two to four of the people, so that some carry more than others
  std::vector<Thing> things_;
  std::array<std::vector<Thing*>, kPeople.size()> carried_;  // in the order taken
  std::array<Lines, kPeople.size()> handled_;                // where they took or dropped something
};

}  // namespace

void tell_of_things(int64_t task, Telling& telling) {
  Household household(telling);
  for (int i = 0; i < kQuestions; ++i) {
    for (int act = 0; act < (task == 3 ? 4 : 2); ++act) household.act();
    while (!household.ask(task)) household.act();
  }
}

}  // namespace fprnn::babi
