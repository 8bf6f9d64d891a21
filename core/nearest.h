// Which of some names a mistyped one was meant to be.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace fprnn {

// The nearest of the names, or nothing where none is near. For every four letters one may be
// missing, added, replaced or exchanged with its neighbour; upper and lower case are the same, and
// so are - and _.
std::string nearest(std::string_view name, std::span<const std::string> names);

// " (did you mean steps?)", to be added to a message; nothing for nothing.
std::string did_you_mean(const std::string& name);

}  // namespace fprnn
