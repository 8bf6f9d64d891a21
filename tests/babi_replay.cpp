#include "babi_replay.h"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

namespace fprnn::tests {

namespace {

using Words = std::vector<std::string>;

Words words_in(std::string text) {
  for (char& c : text) c = c == '.' || c == '?' ? ' ' : static_cast<char>(std::tolower(c));
  std::istringstream stream(text);
  Words words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

const std::map<std::string, std::string> kVerbs = {
    {"moved", "go"},     {"went", "go"},   {"journeyed", "go"},   {"travelled", "go"},
    {"took", "take"},    {"got", "take"},  {"grabbed", "take"},   {"picked", "take"},
    {"dropped", "drop"}, {"left", "drop"}, {"discarded", "drop"}, {"put", "drop"}};
const std::map<std::string, std::string> kOne = {
    {"mice", "mouse"}, {"wolves", "wolf"}, {"cats", "cat"}, {"sheep", "sheep"}};
const std::map<std::string, std::string> kOpposite = {
    {"north", "south"}, {"south", "north"}, {"east", "west"}, {"west", "east"}};

struct Facts {
  std::map<std::string, std::string> room;          // of people
  std::map<std::string, Words> held;                // by people, in order
  std::map<std::string, Words> places;              // of things, one after the other
  std::map<std::string, std::string> feared, kind;  // of kinds, of names
  std::map<std::string, std::map<std::string, std::string>> beside;  // room, direction: room
  Words last;                                                        // whom a pronoun means

  void place(const std::string& thing, const std::string& where) {
    Words& all = places[thing];
    if (!where.empty() && (all.empty() || all.back() != where)) all.push_back(where);
  }

  void read(const Words& words) {
    const auto at = [&](size_t i) { return i < words.size() ? words[i] : ""; };
    if (at(1) == "are") {
      feared[kOne.at(at(0))] = kOne.at(at(4));
    } else if (at(1) == "is") {
      kind[at(0)] = at(3);
    } else if (at(2) == "is") {
      beside[at(6)][at(3)] = at(1);
      beside[at(1)][kOpposite.at(at(3))] = at(6);
    } else {
      act(words);
    }
  }

  void act(const Words& words) {
    const auto verb = std::ranges::find_if(words, [](const auto& w) { return kVerbs.contains(w); });
    Words who;
    for (auto word = words.begin(); word != verb; ++word) {
      const std::set<std::string> others = {"then", "afterwards", "after",
                                            "that", "following",  "and"};
      if (!others.contains(*word)) who.push_back(*word);
    }
    if (who == Words{"he"} || who == Words{"she"} || who == Words{"they"}) who = last;
    last = who;
    const std::string &deed = kVerbs.at(*verb), &object = words.back();
    for (const std::string& person : who) {
      Words& hands = held[person];
      if (deed == "go") {
        room[person] = object;
        for (const std::string& thing : hands) place(thing, object);
      } else if (deed == "take") {
        hands.push_back(object);
        place(object, room[person]);
      } else {
        std::erase(hands, object);
      }
    }
  }

  // The shortest way, if there is just one: its directions.
  std::string way(const std::string& from, const std::string& to) const {
    std::map<std::string, Words> ways = {
        {from, {""}}};  // to each room that can be reached in n steps
    for (size_t n = 0; n < beside.size(); ++n) {
      if (const auto found = ways.find(to); found != ways.end())
        return found->second.size() == 1 ? found->second.front() : "?";
      std::map<std::string, Words> longer;
      for (const auto& [room, all] : ways)
        if (beside.contains(room))
          for (const auto& [direction, next] : beside.at(room))
            for (const std::string& so_far : all)
              longer[next].push_back(so_far + (so_far.empty() ? "" : ",") + direction[0]);
      ways = longer;
    }
    return "?";
  }
};

std::string of(const std::map<std::string, std::string>& all, const std::string& key) {
  const auto at = all.find(key);
  return at == all.end() || at->second.empty() ? "?" : at->second;
}

std::string before(const Words& places, const std::string& room) {
  for (size_t i = places.size(); i > 1; --i)
    if (places[i - 1] == room) return places[i - 2];
  return "?";
}

std::string joined(const Words& words) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : ",") + word;
  return all.empty() ? "nothing" : all;
}

}  // namespace

std::vector<std::vector<StoryLine>> stories_in(const std::string& text) {
  std::vector<std::vector<StoryLine>> stories;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    std::istringstream fields(line);
    StoryLine made;
    fields >> made.number;
    fields.get();
    std::getline(fields, made.text, '\t');
    std::getline(fields, made.answer, '\t');
    for (int number; fields >> number;) made.because.push_back(number);
    if (made.number == 1) stories.emplace_back();
    stories.back().push_back(made);
  }
  return stories;
}

std::string answer_to(const std::string& question, const std::vector<std::string>& statements) {
  Facts facts;
  for (const std::string& statement : statements) facts.read(words_in(statement));
  const Words words = words_in(question);
  const std::string start = words[0] + " " + words[1];
  if (start == "where is" && words[2] == "the") {
    const Words& places = facts.places[words[3]];
    return places.empty() ? "?" : places.back();
  }
  if (start == "where is") return of(facts.room, words[2]);
  if (start == "where was") return before(facts.places[words[3]], words[6]);
  if (words[0] == "is") {
    const std::string room = of(facts.room, words[1]);
    return room == "?" ? room : room == words[4] ? "yes" : "no";
  }
  if (start == "how many")
    return Words{"none", "one", "two", "three"}.at(facts.held[words[4]].size());
  if (start == "what is" && words[3] == "carrying") return joined(facts.held[words[2]]);
  if (start == "what is") return of(facts.feared, of(facts.kind, words[2]));
  if (start == "how do") return facts.way(words[6], words[9]);
  return "?";
}

}  // namespace fprnn::tests
