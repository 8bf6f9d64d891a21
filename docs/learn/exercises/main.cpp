// The tests of the exercises. One alone: exercises -tc='1.2*'.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
