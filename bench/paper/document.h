// docs/paper.md and its charts, made from the runs. Of the document what stands between a marker and the
// next <!-- end --> is replaced:
//   <!-- table WORD.. -->          by a table (tables.h) of the runs that the words select (selection.h)
//   <!-- chart NAME WORD.. -->     by a link to the chart, the file NAME.svg in the document's folder of
//                                  that name, docs/paper/NAME.svg of docs/paper.md, and what it lacks
//   <!-- both WORD.. -->           by whether one model alone does two things (both.h)
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runs.h"

namespace fprnn::paper {

struct Document {
  std::string text;
  std::map<std::string, std::string> charts = {};  // SVG by file name
  std::vector<std::string> lacking = {};  // "heading: what is lacking", for those that lack runs
};

// The document as the runs make it. `folder`: how it names its charts' folder. FormatError, with the
// number of the line: a marker without words that select or without an end.
Document made_document(const std::string& text, const std::string& folder,
                       const std::vector<Row>& rows, const std::vector<Run>& runs);

// What a chart shows, without the version of the program that drew it.
std::string without_version(const std::string& svg);

}  // namespace fprnn::paper
