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

struct Counter : doctest::IReporter {
  explicit Counter(const doctest::ContextOptions&) {}
  void test_run_end(const doctest::TestRunStats& stats) override { statistics = stats; }

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
  void test_case_skipped(const doctest::TestCaseData&) override {}
};
REGISTER_LISTENER("counter", 0, Counter);

int report(unsigned passed, unsigned failed, unsigned skipped, int code) {
  std::fflush(stderr);
  std::printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
  return code == 0 && failed > 0 ? 1 : code;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc == 4 && std::string_view(argv[1]) == "rewrite") {
      fprnn::tests::rewrite(argv[2], argv[3]);
      return 0;
    }
    const fprnn::ContextOptions options = fprnn::tests::test_options();
    std::printf("device cpu, instruction set %s, %d threads, %s\n", describe(options.isa).c_str(),
                options.threads, fprnn::kDouble ? "double" : "float");
    std::fflush(stdout);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return report(0, 1, 0, 2);
  }
  doctest::Context context(argc, argv);
  const int code = context.run();
  return report(statistics.numTestCasesPassingFilters - statistics.numTestCasesFailed,
                statistics.numTestCasesFailed,
                statistics.numTestCases - statistics.numTestCasesPassingFilters, code);
}
