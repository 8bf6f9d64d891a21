#include "drawing.h"

#include <cmath>
#include <cstdio>
#include <initializer_list>

namespace learn {

namespace {

// The colours of the charts (tasks/report/plot.cpp).
const char* colour(Ink ink) {
  switch (ink) {
    case Ink::black:
      return "#1f2328";
    case Ink::grey:
      return "#59636e";
    case Ink::blue:
      return "#0072b2";
    case Ink::orange:
      return "#d55e00";
    case Ink::green:
      return "#009e73";
  }
  return "";
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", std::round(value * 10) / 10 + 0.0);  // no -0
  return text;
}

// name="value"
std::string attribute(const std::string& name, const std::string& value) {
  return name + "=\"" + value + "\" ";
}
std::string attribute(const std::string& name, double value) {
  return attribute(name, number(value));
}

std::string place(Spot spot) { return number(spot.x) + " " + number(spot.y); }

std::string circle(Spot middle, double radius, const std::string& paint) {
  return "<circle " + attribute("cx", middle.x) + attribute("cy", middle.y) +
         attribute("r", radius) + paint + "/>\n";
}

// From the first through the others.
std::string path(std::initializer_list<Spot> spots) {
  std::string path;
  for (const Spot& spot : spots) path.append(path.empty() ? "M" : "L").append(place(spot));
  return path;
}

}  // namespace

Drawing::Drawing(double width, double height, const std::string& title) {
  body_ = "<svg xmlns=\"http://www.w3.org/2000/svg\" " +
          attribute("viewBox", "0 0 " + number(width) + " " + number(height)) +
          attribute("width", width) + attribute("height", height) + attribute("role", "img") +
          attribute("font-family", "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif") +
          ">\n<title>" + fprnn::escaped(title) + "</title>\n<rect " + attribute("width", width) +
          attribute("height", height) + "rx=\"8\" fill=\"#ffffff\"/>\n";
}

void Drawing::line(Spot from, Spot to, Ink ink) {
  body_ += "<path " + attribute("d", path({from, to})) + attribute("stroke", colour(ink)) +
           "stroke-width=\"1.5\"/>\n";
}

void Drawing::arrow(Spot from, Spot to, Ink ink) {
  constexpr double kLength = 8, kHalf = 3.5;  // of the head
  const double x = to.x - from.x, y = to.y - from.y, length = std::hypot(x, y);
  const double along_x = x / length, along_y = y / length;
  const Spot foot{to.x - kLength * along_x, to.y - kLength * along_y};
  line(from, foot, ink);
  const Spot left{foot.x - kHalf * along_y, foot.y + kHalf * along_x};
  const Spot right{foot.x + kHalf * along_y, foot.y - kHalf * along_x};
  body_ += "<path " + attribute("d", path({to, left, right}) + "z") +
           attribute("fill", colour(ink)) + "/>\n";
}

void Drawing::box(const fprnn::Box& box, const std::string& text, Ink ink) {
  body_ += "<rect " + attribute("x", box.x) + attribute("y", box.y) +
           attribute("width", box.width) + attribute("height", box.height) + "rx=\"3\" " +
           attribute("fill", colour(ink)) + "fill-opacity=\"0.12\" " +
           attribute("stroke", colour(ink)) + "/>\n";
  if (!text.empty()) this->text({box.x + box.width / 2, box.y + box.height / 2 + 4.5}, text);
}

void Drawing::dot(Spot middle, double radius, Ink ink) {
  body_ += circle(middle, radius, attribute("fill", colour(ink)));
}

void Drawing::ring(Spot middle, double radius, Ink ink) {
  body_ += circle(middle, radius, "fill=\"none\" " + attribute("stroke", colour(ink)));
}

void Drawing::text(Spot at, const std::string& text, Anchor anchor, int size, Ink ink) {
  static constexpr const char* kAnchors[] = {"start", "middle", "end"};
  body_ += fprnn::draw_text(at.x, at.y, text,
                            attribute("font-size", size) + attribute("fill", colour(ink)) +
                                attribute("text-anchor", kAnchors[static_cast<int>(anchor)]));
}

void Drawing::chart(const fprnn::Panel& panel, const fprnn::Box& box) {
  body_ += fprnn::draw(panel, box);
}

void Drawing::legend(Spot at, const fprnn::Curve& curve, const std::string& text) {
  body_ += fprnn::draw_sample(curve, at.x, at.y);
  this->text({at.x + 44, at.y + 4.5}, text, Anchor::start);
}

std::string Drawing::svg() const { return body_ + "</svg>\n"; }

}  // namespace learn
