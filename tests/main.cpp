// The test program. Its last line is "N passed, N failed, N skipped", counting test cases.
// `tests rewrite FROM TO` instead rewrites a safetensors file, for package/interoperability.py.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <string_view>

#include "context.h"
#include "rewrite.h"

namespace {

doctest::TestRunStats statistics{};

// Counts, and says why a case is skipped that was not left out by a filter (needs.h).
struct Counter : doctest::IReporter {
  explicit Counter(const doctest::ContextOptions&) {}
  void test_run_end(const doctest::TestRunStats& stats) override { statistics = stats; }
  void test_case_skipped(const doctest::TestCaseData& test) override {
    if (test.m_skip) std::printf("skipped (%s): %s\n", test.m_description, test.m_name);
  }

  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_case_start(const doctest::TestCaseData&) override {}
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
};
REGISTER_LISTENER("counter", 0, Counter);

int report(unsigned passed, unsigned failed, unsigned skipped, int code) {
  std::fflush(stderr);
  std::printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
  return code == 0 && failed > 0 ? 1 : code;
}

}  // namespace

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  try {
    using namespace fprnn::tests;
    if (argc == 4 && std::string_view(argv[1]) == "rewrite") {
      rewrite(argv[2], argv[3]);
      return 0;
    }
    const fprnn::ContextOptions options = test_options();
    if (const std::string reason = reason_to_skip_all(); !reason.empty()) {
      std::printf("%s: every test is skipped\n", reason.c_str());
      context.addFilter("test-case-exclude", "*");
    } else {
      std::printf("device %s, %s\n", describe(device_context(options)).c_str(),
                  fprnn::kDouble ? "double" : "float");
    }
    std::fflush(stdout);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return report(0, 1, 0, 2);
  }
  const int code = context.run();
  return report(statistics.numTestCasesPassingFilters - statistics.numTestCasesFailed,
                statistics.numTestCasesFailed,
                statistics.numTestCases - statistics.numTestCasesPassingFilters, code);
}
