// The keys of the JSON of record.h and the members that they stand for: written once, used by what writes
// it and by what reads it.
#pragma once

#include <fprnn/tasks/report/record.h>

#include <limits>
#include <variant>

namespace fprnn::record_fields {

// The largest finite number.
inline constexpr double kLargest = std::numeric_limits<double>::max();

// Where a value of a record is kept.
using Place = std::variant<int64_t*, uint64_t*, double*, std::optional<double>*, std::string*,
                           KeyTexts*, NamedValues*, std::vector<int64_t>*,
                           std::vector<LengthResult>*, std::vector<PrefixResult>*>;

// A key of a record and its value's place.
struct Field {
  std::string_view key = {};  // as in JSON
  Place place = {};
  bool optional = false;              // where it is read
  double least = 0, most = kLargest;  // of a number
  bool seen = false;                  // found while reading
  bool if_any = false;                // written only if it is not empty
};
// A record's, in the order written.
using Fields = std::vector<Field>;
// Both, one after the other.
Fields joined(Fields first, const Fields& second);

// The pointers are into what is given.
Fields fields(StepMetrics& m);
Fields fields(Origin& o);
Fields fields(RunStart& s);
Fields fields(LengthResult& r);
Fields fields(PrefixResult& r);
Fields fields(Protocols& p);
Fields fields(Evaluation& e);

}  // namespace fprnn::record_fields
