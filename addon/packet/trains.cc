#include "packet/trains.h"

#include <algorithm>

#include "packet/hash.h"

namespace twill {

TrainSet::TrainSet() : memory_(new uint8_t[kStride * kMaxTrains]) {
  for (uint32_t i = 0; i < kMaxTrains; i++) trains_[i].data = memory_.get() + i * kStride;
}

namespace {

// HOT
// Two ways that share a slot only lose a chance to merge.
uint32_t HashOf(const Destination& to, uint16_t length) noexcept {
  const uint32_t* words = to.host.address.words;
  uint32_t host = words[0];
  if (to.host.is_v6) host = Mix(Mix(host, words[1]), Mix(words[2], words[3])) ^ to.flow_label;
  return Mix(host, static_cast<uint32_t>(to.port) << 16 | length);
}

}  // namespace

// HOT
uint8_t* TrainSet::Append(uint32_t index, uint16_t length) noexcept {
  Train& train = trains_[index];
  uint8_t* at = train.data + train.bytes;
  train.bytes += length;
  train.count++;
  train.open = length == train.size && train.count < train.to.limit && train.bytes + length <= kMaxTrainBytes;
  return at;
}

// HOT
uint8_t* TrainSet::Reserve(const Destination& to, uint16_t length, bool follow, uint32_t* order) noexcept {
  if (follow && *order < used_) {
    const Train& train = trains_[*order];
    if (train.open && length <= train.size && train.to.SameWay(to)) {
      return Append(*order, length);
    }
  }
  const uint32_t hash = HashOf(to, length);
  const uint32_t* youngest = youngest_.Find(hash);
  if (youngest != nullptr && *youngest >= *order) {
    const Train& train = trains_[*youngest];
    if (train.open && train.size == length && train.to.SameWay(to)) {
      *order = *youngest;
      return Append(*youngest, length);
    }
  }
  if (used_ == kMaxTrains) return nullptr;
  const uint32_t index = used_++;
  Train& train = trains_[index];
  train.to = to;
  train.size = length;
  train.count = 0;
  train.bytes = 0;
  youngest_.Put(hash, index);
  *order = index;
  return Append(index, length);
}

void TrainSet::Clear() noexcept {
  used_ = 0;
  youngest_.Clear();
}

// HOT
uint32_t FlowOrder::Earliest(const FlowKey& key) const noexcept {
  const Pair* pair = pairs_.Find(key.pair);
  if (key.is_fragment) return pair != nullptr ? pair->any : 0;
  const uint32_t* flow = flows_.Find(key.flow);
  return std::max(flow != nullptr ? *flow : 0, pair != nullptr ? pair->fragments : 0);
}

// HOT
void FlowOrder::Note(const FlowKey& key, uint32_t order) noexcept {
  const Pair* known = pairs_.Find(key.pair);
  Pair pair = known != nullptr ? *known : Pair{0, 0};
  pair.any = std::max(pair.any, order);
  if (key.is_fragment) pair.fragments = std::max(pair.fragments, order);
  pairs_.Put(key.pair, pair);
  if (key.is_fragment) return;
  const uint32_t* flow = flows_.Find(key.flow);
  flows_.Put(key.flow, flow != nullptr ? std::max(*flow, order) : order);
}

void FlowOrder::Clear() noexcept {
  flows_.Clear();
  pairs_.Clear();
}

}  // namespace twill
