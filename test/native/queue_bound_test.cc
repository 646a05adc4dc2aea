// The worker's side of the sums that bound the TUN queue; the program in the kernel is tried in test/lab.

#include "../../addon/kernel/queue_bound.h"
#include "../support/check.h"

using namespace twill;

namespace {

int64_t Waiting(const QueueLoad& load) { return static_cast<int64_t>(load.queued.load() - load.read.load()); }

}  // namespace

int main() {
  test::Case("what is read no longer waits, and a short packet weighs as it did when it was queued", [] {
    QueueLoad load{};
    QueueReader reader(&load);
    load.queued = 60'000 + kLeastCharge;
    reader.Note();
    reader.Read(60'000);
    CHECK_EQUAL(Waiting(load), kLeastCharge);
    reader.Read(40);
    CHECK_EQUAL(Waiting(load), 0);
  });

  test::Case("an empty queue forgets what was counted and never queued", [] {
    QueueLoad load{};
    QueueReader reader(&load);
    load.queued = 500'000;
    reader.Note();
    reader.Empty();
    CHECK_EQUAL(Waiting(load), 0);
  });

  test::Case("a packet queued between the look and the empty read still counts", [] {
    QueueLoad load{};
    QueueReader reader(&load);
    reader.Note();
    load.queued = 3'000;
    reader.Empty();
    CHECK_EQUAL(Waiting(load), 3'000);
    reader.Note();
    reader.Read(3'000);
    CHECK_EQUAL(Waiting(load), 0);
  });

  test::Case("what was queued while it waited for its turn is an earlier reader's", [] {
    QueueLoad load{};
    QueueReader reader(&load);
    load.queued = 2 * kQueueBytes;
    reader.Look(1);
    CHECK_EQUAL(Waiting(load), 0);
    load.queued += 3'000;
    reader.Look(2);
    CHECK_EQUAL(Waiting(load), 3'000);
  });

  test::Case("single packets reach the bound before the queue of 2,000 is full, and not much before", [] {
    CHECK(2'000ull * kLeastCharge > kQueueBytes);
    CHECK(1'900ull * kLeastCharge < kQueueBytes);
  });

  test::Case("without a bound nothing is touched", [] {
    QueueReader reader(nullptr);
    reader.Look(1);
    reader.Note();
    reader.Read(1);
    reader.Empty();
    CHECK(true);
  });
  return test::Finish();
}
