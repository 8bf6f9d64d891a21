#include <fprnn/core/check.h>
#include <fprnn/tasks/babi/simulator.h>
#include <fprnn/tasks/babi/world.h>

#include <set>

namespace fprnn::babi {

namespace {

constexpr int64_t kMostStories = 100'000;

struct Kind {
  std::string one, many;
};
const std::array<Kind, 4> kKinds = {
    {{"mouse", "mice"}, {"wolf", "wolves"}, {"cat", "cats"}, {"sheep", "sheep"}}};
const std::array<std::string, 4> kNames = {"Gertrude", "Winona", "Emily", "Jessica"};

// North, east, south, west: i and i + 2 are opposite.
const std::array<std::string, 4> kDirections = {"north", "east", "south", "west"};
constexpr std::array<std::array<int, 2>, 4> kSteps = {{{0, 1}, {1, 0}, {0, -1}, {-1, 0}}};

// From one room to its neighbour, and the line that says so.
struct Way {
  size_t from, to, direction;
  int64_t line = 0;
};

std::array<int, 2> beside(const std::array<int, 2>& place, size_t direction) {
  return {place[0] + kSteps[direction][0], place[1] + kSteps[direction][1]};
}

// Joins the rooms into a tree on a grid on which no other two are neighbours.
std::vector<Way> floor_plan(Telling& telling) {
  std::vector<size_t> rooms;
  for (size_t room = 0; room < kRooms.size(); ++room) rooms.push_back(room);
  telling.shuffle(rooms);
  std::vector<std::array<int, 2>> places = {{0, 0}};
  std::vector<Way> ways;
  while (places.size() < rooms.size()) {
    const size_t from = telling.below(places.size()), direction = telling.below(4);
    const std::array<int, 2> place = beside(places[from], direction);
    size_t neighbours = 0;
    for (size_t d = 0; d < 4; ++d) neighbours += std::ranges::count(places, beside(place, d));
    if (neighbours != 1 || std::ranges::count(places, place) != 0) continue;
    ways.push_back({rooms[from], rooms[places.size()], direction});
    places.push_back(place);
  }
  return ways;
}

std::string story_of(int64_t task, Draws& draws) {
  Telling telling(draws);
  if (task == 15)
    tell_of_fears(telling);
  else if (task == 19)
    tell_of_paths(telling);
  else if (task == 2 || task == 3 || task == 7 || task == 8)
    tell_of_things(task, telling);
  else
    tell_of_people(task, telling);
  return telling.text();
}

}  // namespace

void tell_of_fears(Telling& telling) {
  constexpr size_t n = kKinds.size();
  std::vector<size_t> order(2 * n);  // below n: what a kind fears; from n: of what kind a name is
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  telling.shuffle(order);
  std::array<size_t, n> feared{}, kind{};
  std::array<int64_t, 2 * n> line{};
  for (const size_t i : order) {
    const size_t j = i % n;
    if (i < n) {
      feared[j] = (j + 1 + telling.below(n - 1)) % n;
      line[i] = telling.say(kKinds[j].many + " are afraid of " + kKinds[feared[j]].many);
    } else {
      kind[j] = telling.below(n);
      line[i] = telling.say(kNames[j] + " is a " + kKinds[kind[j]].one);
    }
  }
  std::vector<size_t> names = {0, 1, 2, 3};
  telling.shuffle(names);
  for (const size_t name : names)
    telling.ask("What is " + kNames[name] + " afraid of", kKinds[feared[kind[name]]].one,
                {line[n + name], line[kind[name]]});
}

void tell_of_paths(Telling& telling) {
  std::vector<Way> ways = floor_plan(telling);
  telling.shuffle(ways);
  std::vector<Way> both;
  for (Way& way : ways) {
    const Way back = {way.to, way.from, (way.direction + 2) % 4};
    const Way& said = telling.one_in(2) ? way : back;
    const int64_t line = telling.say("The " + kRooms[said.to] + " is " +
                                     kDirections[said.direction] + " of the " + kRooms[said.from]);
    both.push_back({way.from, way.to, way.direction, line});
    both.push_back({back.from, back.to, back.direction, line});
  }
  std::vector<std::pair<Way, Way>> pairs;
  for (const Way& first : both)
    for (const Way& second : both)
      if (first.to == second.from && first.from != second.to) pairs.push_back({first, second});
  const auto& [first, second] = telling.one_of(pairs);
  const auto letter = [](const Way& way) { return kDirections[way.direction].substr(0, 1); };
  telling.ask("How do you go from the " + kRooms[first.from] + " to the " + kRooms[second.to],
              letter(first) + "," + letter(second), {first.line, second.line});
}

std::vector<File> simulated(const SimulatorOptions& options) {
  check_tasks(options.tasks);
  require<ValueError>(options.stories >= 1 && options.stories <= kMostStories, "stories",
                      "there must be 1 to 100,000 of a task", options.stories);
  for (const int64_t task : options.tasks)
    require<ValueError>(std::ranges::count(kSimulated, task) == 1, "tasks",
                        "stories are made of tasks 1, 2, 3, 6, 7, 8, 11, 13, 15 and 19 only", task);
  std::vector<File> files;
  for (const int64_t task : options.tasks) {
    Draws draws({options.seed, static_cast<uint64_t>(task)}, 0);
    std::set<std::string> told;
    for (const Part part : kParts) {
      const int64_t count =
          part == Part::train ? options.stories : std::max<int64_t>(1, options.stories / 10);
      File& file = files.emplace_back(File{.task = task, .part = part});
      file.source = "simulated task " + std::to_string(task);
      for (int64_t i = 0; i < count; ++i) {
        std::string story = story_of(task, draws);
        while (!told.insert(story).second) story = story_of(task, draws);
        file.text += story;
      }
    }
  }
  std::ranges::sort(files, {}, [](const File& file) { return std::pair(file.part, file.task); });
  return files;
}

}  // namespace fprnn::babi
