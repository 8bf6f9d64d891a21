// A tiny drawing layer: one panel of curves with its axes, as a piece of SVG. Every text is
// escaped, every coordinate is a finite number with one decimal, and what cannot be shown leaves
// a gap.
#pragma once

#include <fprnn/tasks/report/axis.h>

#include <limits>

namespace fprnn {

// A point of a curve, in the axes' numbers.
struct Point {
  double x = 0, y = 0;                                    // its place
  double low = std::numeric_limits<double>::quiet_NaN();  // the ends of a bar or band, if any
  double high = low;                                      // its upper one
};

// A line through points.
struct Curve {
  std::vector<Point> points;
  size_t style = 0;                   // a run's colour, dashes and mark
  bool faint = false, marks = false;  // drawn lightly; with a mark at each point
  bool bars = false, band = false;    // what low and high are drawn as
};

// A name beside a point.
struct Name {
  double x = 0, y = 0;  // the point, in the axes' numbers
  std::string text;     // one line
};

// One plot: curves in two axes, with titles.
struct Panel {
  std::string title = {}, note = {};  // the note in grey after it: units, what is drawn how
  std::string x_label;                // beneath the axis
  Axis x = {}, y = {};                // what is shown, to the right and upwards
  std::vector<Curve> curves;
  std::vector<Name> names = {};         // of marks (names.h)
  std::vector<int64_t> verticals = {};  // values of x marked by a dashed line
  std::string vertical_note = {};       // beside the vertical axis
};

// A part of the page.
struct Box {
  double x = 0, y = 0, width = 0, height = 0;  // of the upper left corner, and sizes
};

// SVG of the panel in the box.
std::string draw(const Panel& panel, const Box& box);
// A sample for a legend, 36 wide, with its middle at (x + 18, y): of a style with its mark, or of a
// curve as it is drawn, faint or not and with a mark if it has marks. A curve of one point has no line.
std::string draw_sample(size_t style, double x, double y);
std::string draw_sample(const Curve& curve, double x, double y);
// Text of the given font attributes; `anchor` is start, middle or end.
std::string draw_text(double x, double y, const std::string& text, const std::string& attributes);
// A title in bold and, after it, a note in small grey.
std::string draw_heading(double x, double y, int size, const std::string& title,
                         const std::string& note);
// A whole file around what was drawn: white, with the title at its head and the version of this program
// and of its solvers in its description. Sizes in pixels.
struct Page {
  std::string title;
  double width = 0, height = 0, margin = 0;  // around what is drawn
};
std::string draw_page(const Page& page, const std::string& drawn);
// Text for XML: markup characters escaped, and only what printable() leaves.
std::string escaped(const std::string& text);

// At most so many points: neighbours become one with their means and the whole of their spread.
std::vector<Point> thinned(const std::vector<Point>& points, size_t most);

}  // namespace fprnn
