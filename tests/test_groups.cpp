// Groups: that each is one, and the one that it is called.
#include <doctest/doctest.h>
#include <fprnn/core/check.h>
#include <fprnn/core/rng.h>
#include <fprnn/tasks/group.h>

#include <map>
#include <set>

namespace fprnn::tests {

namespace {

int order_of(const Group& group, int element) {
  int power = element, order = 1;
  for (; power != group.identity; ++order) power = group.product(power, element);
  return order;
}

// How many elements there are of each order.
std::map<int, int> orders(const Group& group) {
  std::map<int, int> count;
  for (int a = 0; a < group.order; ++a) ++count[order_of(group, a)];
  return count;
}

int commuting_pairs(const Group& group) {
  int pairs = 0;
  for (const int a : group.elements())
    for (const int b : group.elements()) pairs += group.product(a, b) == group.product(b, a);
  return pairs;
}

// Of all triples, or of 3,000 where there are very many.
int64_t misassociated(const Group& group) {
  const int n = group.order;
  const Rng rng{9, 9};
  const int64_t triples = n <= 60 ? int64_t{n} * n * n : 3000;
  int64_t wrong = 0;
  for (int64_t i = 0; i < triples; ++i) {
    const auto drawn = [&](int which) { return static_cast<int>(rng.below(3 * i + which, n)); };
    const int a = n <= 60 ? static_cast<int>(i / (n * n)) : drawn(0);
    const int b = n <= 60 ? static_cast<int>(i / n % n) : drawn(1);
    const int c = n <= 60 ? static_cast<int>(i % n) : drawn(2);
    wrong += group.product(group.product(a, b), c) != group.product(a, group.product(b, c));
  }
  return wrong;
}

int inverse(const Group& group, int a) {
  int b = 0;
  while (group.product(a, b) != group.identity) ++b;
  return b;
}

// What some elements generate by products.
std::set<int> closure(const Group& group, const std::set<int>& generators) {
  std::set<int> all = {group.identity}, latest = all;
  while (!latest.empty()) {
    std::set<int> next;
    for (const int a : latest)
      for (const int g : generators)
        if (all.insert(group.product(a, g)).second) next.insert(group.product(a, g));
    latest = std::move(next);
  }
  return all;
}

// Orders of the group, of its commutators' subgroup, of that one's, until they stay.
std::vector<int> derived_series(const Group& group) {
  const std::vector<int> all = group.elements();
  std::set<int> subgroup(all.begin(), all.end());
  std::vector<int> orders;
  while (orders.empty() || static_cast<int>(subgroup.size()) < orders.back()) {
    orders.push_back(static_cast<int>(subgroup.size()));
    std::set<int> commutators;
    for (const int a : subgroup)
      for (const int b : subgroup)
        commutators.insert(group.product(group.product(a, b),
                                         group.product(inverse(group, a), inverse(group, b))));
    subgroup = closure(group, commutators);
  }
  return orders;
}

}  // namespace

TEST_CASE("groups: closed, associative, with an identity and inverses") {
  const std::map<std::string, int> named{
      {"Z7", 7},     {"S3", 6},         {"S4", 24}, {"A4", 12},   {"A5", 60}, {"S5", 120},
      {"A4xZ5", 60}, {"Z2xZ2xZ3", 12},  {"Z1", 1},  {"S1", 1},    {"A1", 1},  {"A2", 1},
      {"Z256", 256}, {"Z256xZ4", 1024}, {"S2", 2},  {"S3xS3", 36}};
  for (const auto& entry : named) {
    const std::string& name = entry.first;
    const int order = entry.second;
    INFO(name);
    const Group group = group_named(name);
    CHECK(group.name == name);
    REQUIRE(group.order == order);
    REQUIRE(group.table.size() == size_t(order) * order);
    for (const int product : group.table) REQUIRE((product >= 0 && product < order));
    // A Latin square: every row and every column holds each element once, so there are inverses.
    for (int a = 0; a < order; ++a) {
      std::set<int> right, left;
      for (int b = 0; b < order; ++b) {
        right.insert(group.product(a, b));
        left.insert(group.product(b, a));
      }
      REQUIRE((int(right.size()) == order && int(left.size()) == order));
      REQUIRE(group.product(a, group.identity) == a);
      REQUIRE(group.product(group.identity, a) == a);
    }
    REQUIRE(misassociated(group) == 0);
  }
}

TEST_CASE("groups: each is the one that it is called") {
  using Orders = std::map<int, int>;
  CHECK(orders(group_named("Z7")) == Orders{{1, 1}, {7, 6}});
  CHECK(orders(group_named("S3")) == Orders{{1, 1}, {2, 3}, {3, 2}});
  CHECK(orders(group_named("S4")) == Orders{{1, 1}, {2, 9}, {3, 8}, {4, 6}});
  CHECK(orders(group_named("A4")) == Orders{{1, 1}, {2, 3}, {3, 8}});
  CHECK(orders(group_named("A5")) == Orders{{1, 1}, {2, 15}, {3, 20}, {5, 24}});
  CHECK(orders(group_named("S5")) == Orders{{1, 1}, {2, 25}, {3, 20}, {4, 30}, {5, 24}, {6, 20}});
  CHECK(orders(group_named("A4xZ5")) == Orders{{1, 1}, {2, 3}, {3, 8}, {5, 4}, {10, 12}, {15, 32}});
  CHECK(orders(group_named("S3xS3")) == Orders{{1, 1}, {2, 15}, {3, 8}, {6, 12}});
  CHECK(orders(group_named("Z2xZ2xZ3")) == Orders{{1, 1}, {2, 3}, {3, 2}, {6, 6}});
  const std::map<std::string, int> commuting{{"S3", 18},      {"A4", 48},        {"S4", 120},
                                             {"A5", 300},     {"S5", 840},       {"S3xS3", 324},
                                             {"A4xZ5", 1200}, {"Z2xZ2xZ3", 144}, {"Z60", 3600}};
  for (const auto& entry : commuting) {
    INFO(entry.first);
    CHECK(commuting_pairs(group_named(entry.first)) == entry.second);
  }
}

// A learner waits where it knows the product modulo one of these, ln of its order above nothing.
TEST_CASE("groups: series of commutators, whose orders give the plateaus of the loss") {
  using Orders = std::vector<int>;
  CHECK(derived_series(group_named("S5")) == Orders{120, 60});
  CHECK(derived_series(group_named("A5")) == Orders{60});
  CHECK(derived_series(group_named("S4")) == Orders{24, 12, 4, 1});
  CHECK(derived_series(group_named("A4")) == Orders{12, 4, 1});
  CHECK(derived_series(group_named("S3")) == Orders{6, 3, 1});
  CHECK(derived_series(group_named("S3xS3")) == Orders{36, 9, 1});
  CHECK(derived_series(group_named("A4xZ5")) == Orders{60, 4, 1});
  CHECK(derived_series(group_named("Z60")) == Orders{60, 1});
}

TEST_CASE("groups: elements are numbered as the header says") {
  CHECK(group_named("Z7").product(5, 4) == 2);
  // 012 021 102 120 201 210: (p q)(i) = p(q(i)).
  const Group s3 = group_named("S3");
  CHECK(s3.product(1, 2) == 4);
  CHECK(s3.product(2, 1) == 3);
  // 012 120 201
  CHECK(group_named("A3").product(1, 1) == 2);
  // (a, b) is 3 a + b, the leftmost factor first.
  const Group pairs = group_named("Z2xZ3");
  CHECK(pairs.product(1 * 3 + 2, 1 * 3 + 2) == 0 * 3 + 1);
  const Group triples = group_named("Z2xS3xZ2");
  CHECK(triples.product((1 * 6 + 1) * 2 + 1, (0 * 6 + 2) * 2 + 0) == (1 * 6 + 4) * 2 + 1);
  for (const char* name : {"S3", "A4", "A4xZ5", "Z5"}) CHECK(group_named(name).identity == 0);
}

TEST_CASE("groups: other names are refused") {
  const std::string nul(1, '\0');
  for (const std::string& name :
       std::initializer_list<std::string>{"",
                                          " ",
                                          "Z",
                                          "S",
                                          "A",
                                          "x",
                                          "7",
                                          "Z0",
                                          "S0",
                                          "A0",
                                          "Z257",
                                          "S6",
                                          "A6",
                                          "Q8",
                                          "D4",
                                          "A4x",
                                          "xA4",
                                          "A4xx",
                                          "A4xxZ5",
                                          "Z3y",
                                          "Z3x",
                                          "Z03",
                                          "Z007",
                                          "S05",
                                          "S5xS5",
                                          "Z256xZ5",
                                          "Z2xZ2xZ2xZ2xZ2xZ2xZ2xZ2xZ2xZ2xZ2",
                                          "z3",
                                          "s3",
                                          "a4",
                                          "A4XZ5",
                                          "A4*Z5",
                                          "Z3 ",
                                          " Z3",
                                          "Z 3",
                                          "Z3\n",
                                          "A4 xZ5",
                                          "A4x Z5",
                                          "Z-3",
                                          "Z+3",
                                          "Z3.0",
                                          "Z3e0",
                                          "Z0x3",
                                          "Zx3",
                                          "Z4294967299",
                                          "Z18446744073709551619",
                                          "Z" + std::string(10000, '9'),
                                          "S99999999999999999999",
                                          "Z3" + nul,
                                          nul,
                                          "Z\xef\xbc\x93",
                                          "Z3,Z4",
                                          "S3S4",
                                          "Z1xZ0"}) {
    INFO(name);
    CHECK_THROWS_AS(group_named(name), ValueError);
  }
}

}  // namespace fprnn::tests
