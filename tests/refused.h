// That a call throws E and that the message names what broke the rule.
#pragma once

#include <doctest/doctest.h>

#include <string>

namespace fprnn::tests {

template <class E, class Call>
void check_refused(const std::string& fragment, const Call& call) {
  try {
    call();
    FAIL_CHECK("nothing was thrown: " << fragment);
  } catch (const E& error) {
    INFO(std::string(error.what()));
    CHECK(std::string(error.what()).find(fragment) != std::string::npos);
  }
}

}  // namespace fprnn::tests
