// A picture of boxes, arrows, text and charts as the text of an SVG file. Sizes are in pixels, y goes
// down, and every coordinate is rounded to a tenth.
#pragma once

#include <fprnn/tasks/report/plot.h>

#include <string>

namespace learn {

enum class Ink { black, grey, blue, orange, green };
enum class Anchor { start, middle, end };

struct Spot {
  double x = 0, y = 0;
};

class Drawing {
 public:
  // The title is for who cannot see the picture.
  Drawing(double width, double height, const std::string& title);

  void line(Spot from, Spot to, Ink ink = Ink::grey);
  void arrow(Spot from, Spot to, Ink ink = Ink::grey);  // its head is at `to`
  // A frame with a pale ground of its ink and a text in its middle, which may be empty.
  void box(const fprnn::Box& box, const std::string& text = {}, Ink ink = Ink::grey);
  void dot(Spot middle, double radius, Ink ink = Ink::black);  // filled
  void ring(Spot middle, double radius, Ink ink = Ink::grey);
  void text(Spot at, const std::string& text, Anchor anchor = Anchor::middle, int size = 13,
            Ink ink = Ink::black);
  void chart(const fprnn::Panel& panel, const fprnn::Box& box);
  // A line of a chart's legend: a sample of the curve, and what it stands for.
  void legend(Spot at, const fprnn::Curve& curve, const std::string& text);

  std::string svg() const;

 private:
  std::string body_;
};

}  // namespace learn
