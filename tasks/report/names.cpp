#include <fprnn/core/text.h>
#include <fprnn/tasks/report/names.h>

#include <algorithm>

namespace fprnn {

namespace {

constexpr double kLetter = 6.4, kMark = 7, kGap = 10, kLine = kNameHeight + 1;
constexpr int kMostLines = 12;  // that a name is moved up or down by

bool overlap(const Box& a, const Box& b) {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
}
bool inside(const Box& a, const Box& b) {
  return a.x >= b.x && a.y >= b.y && a.x + a.width <= b.x + b.width &&
         a.y + a.height <= b.y + b.height;
}

// To the right of the mark, then to its left, then the same a line higher, a line lower and so on.
std::vector<Box> boxes_beside(const NamePlace& place, double width) {
  std::vector<Box> boxes;
  for (int line = 0; line <= kMostLines; ++line)
    for (const double shift : {-line * kLine, line * kLine})
      for (const double x : {place.mark_x + kGap, place.mark_x - kGap - width})
        boxes.push_back({x, place.mark_y + shift - kNameHeight / 2, width, kNameHeight});
  return boxes;
}

}  // namespace

double name_width(const std::string& name) { return kLetter * static_cast<double>(width(name)); }

void place_names(std::span<NamePlace> places, std::span<const std::string> names,
                 const Box& within) {
  std::vector<Box> taken;
  for (const NamePlace& place : places)
    taken.push_back({place.mark_x - kMark, place.mark_y - kMark, 2 * kMark, 2 * kMark});
  for (size_t i = 0; i < places.size(); ++i) {
    const std::vector<Box> boxes = boxes_beside(places[i], name_width(names[i]));
    const auto is_free = [&](const Box& box) {
      return inside(box, within) &&
             std::ranges::none_of(taken, [&](const Box& other) { return overlap(box, other); });
    };
    const auto found = std::ranges::find_if(boxes, is_free);
    const Box& box = found == boxes.end() ? boxes.front() : *found;
    taken.push_back(box);
    places[i].x = box.x;
    places[i].y = box.y + kNameHeight;
  }
}

}  // namespace fprnn
