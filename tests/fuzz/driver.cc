// Runs a fuzz target without libFuzzer: every file of a corpus as it is, then
// random mutations of them. Blind, so no match for coverage guidance, but it
// runs in every build and under every sanitizer.
//
//   fuzz_form DIRECTORY|FILE…
//   POSTERN_FUZZ_RUNS   mutated inputs (default 20000)
//   POSTERN_FUZZ_SEED   to repeat a run (printed at the start)

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "support/from_environment.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using postern::test::from_environment;

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::uint8_t> g_running;

/// Leaves the input that ended the process in crash-input, as libFuzzer does.
extern "C" void keep_input(int signal) {
  if (auto* file = std::fopen("crash-input", "wb")) {
    std::fwrite(g_running.data(), 1, g_running.size(), file);
    std::fclose(file);
  }
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void run(const std::string& input) {
  // Exact size on the heap, so that a read past the end is seen by ASan.
  g_running.assign(input.begin(), input.end());
  g_running.shrink_to_fit();
  LLVMFuzzerTestOneInput(g_running.data(), g_running.size());
}

class Mutator {
 public:
  Mutator(const std::vector<std::string>& corpus, std::uint64_t seed)
      : corpus_(corpus), random_(seed) {}

  std::string next() {
    auto text = any();
    for (auto rounds = below(8) + 1; rounds > 0; --rounds) mutate(text);
    return text;
  }

 private:
  std::size_t below(std::size_t bound) { return bound == 0 ? 0 : random_() % bound; }
  const std::string& any() { return corpus_[below(corpus_.size())]; }
  std::size_t place(const std::string& text) { return below(text.size() + 1); }

  void mutate(std::string& text) {
    static constexpr unsigned char kInteresting[] = {0,   1,   9,    10,   13,   32,   '"',  '%',
                                                     '&', '+', ',',  '.',  '0',  ':',  ';',  '=',
                                                     '[', '{', '\\', 0x7f, 0x80, 0xc0, 0xed, 0xff};
    switch (below(7)) {
      case 0:  // flip a bit
        if (!text.empty()) text[below(text.size())] ^= static_cast<char>(1u << below(8));
        break;
      case 1:  // put in a byte that means something to somebody
        text.insert(place(text), 1, static_cast<char>(kInteresting[below(sizeof kInteresting)]));
        break;
      case 2:  // overwrite likewise
        if (!text.empty()) {
          text[below(text.size())] = static_cast<char>(kInteresting[below(sizeof kInteresting)]);
        }
        break;
      case 3:  // cut out
        if (!text.empty()) text.erase(below(text.size()), below(16) + 1);
        break;
      case 4: {  // repeat a part
        const auto from = place(text);
        const auto part = text.substr(from, below(32) + 1);
        text.insert(place(text), part);
        break;
      }
      case 5: {  // splice in a part of another input
        const auto& other = any();
        const auto from = below(other.size() + 1);
        text.insert(place(text), other.substr(from, below(64) + 1));
        break;
      }
      case 6: text.resize(place(text)); break;  // truncate
    }
    if (text.size() > 1 << 16) text.resize(1 << 16);
  }

  const std::vector<std::string>& corpus_;
  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> corpus;
  std::error_code missing;
  for (int i = 1; i < argc; ++i) {
    if (std::filesystem::is_directory(argv[i], missing)) {
      for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
        if (entry.is_regular_file()) corpus.push_back(read(entry.path()));
      }
    } else {
      corpus.push_back(read(argv[i]));
    }
  }
  std::sort(corpus.begin(), corpus.end());  // same seed, same run, whatever the directory order
  if (corpus.empty()) {
    std::fprintf(stderr, "no input files\n");
    return 1;
  }
  const auto seed = from_environment("POSTERN_FUZZ_SEED", std::random_device{}());
  const auto runs = from_environment("POSTERN_FUZZ_RUNS", 20'000);
  std::printf("%zu files, %llu mutations, seed %llu\n", corpus.size(),
              static_cast<unsigned long long>(runs), static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  std::signal(SIGABRT, keep_input);
  run("");
  for (const auto& input : corpus) run(input);
  Mutator mutator(corpus, seed);
  for (std::uint64_t i = 0; i < runs; ++i) run(mutator.next());
  return 0;
}
