#include "trains.h"

#include <algorithm>

namespace twill {

TrainSet::TrainSet() : memory_(new uint8_t[kStride * kMaxTrains]) {
  for (uint32_t i = 0; i < kMaxTrains; i++) trains_[i].data = memory_.get() + i * kStride;
}

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
    if (train.open && length <= train.size && train.to.address == to.address && train.to.port == to.port) {
      return Append(*order, length);
    }
  }
  Slot& slot = slots_[Mix(to.address, static_cast<uint32_t>(to.port) << 16 | length) % kSlots];
  if (slot.epoch == epoch_ && slot.train >= *order) {
    const Train& train = trains_[slot.train];
    if (train.open && train.size == length && train.to.address == to.address && train.to.port == to.port) {
      *order = slot.train;
      return Append(slot.train, length);
    }
  }
  if (used_ == kMaxTrains) return nullptr;
  const uint32_t index = used_++;
  Train& train = trains_[index];
  train.to = to;
  train.size = length;
  train.count = 0;
  train.bytes = 0;
  slot = {epoch_, index};
  *order = index;
  return Append(index, length);
}

void TrainSet::Clear() noexcept {
  used_ = 0;
  epoch_++;
}

// HOT
uint32_t FlowOrder::Earliest(const Key& key) const noexcept {
  const PairSlot& pair = pairs_[key.pair % kSlots];
  const bool pair_known = pair.epoch == epoch_;
  if (key.is_fragment) return pair_known ? pair.any : 0;
  const FlowSlot& flow = flows_[key.flow % kSlots];
  const uint32_t own = flow.epoch == epoch_ ? flow.order : 0;
  return pair_known ? std::max(own, pair.fragments) : own;
}

// HOT
void FlowOrder::Note(const Key& key, uint32_t order) noexcept {
  PairSlot& pair = pairs_[key.pair % kSlots];
  if (pair.epoch != epoch_) pair = {epoch_, 0, 0};
  pair.any = std::max(pair.any, order);
  if (key.is_fragment) {
    pair.fragments = std::max(pair.fragments, order);
    return;
  }
  FlowSlot& flow = flows_[key.flow % kSlots];
  flow = {epoch_, flow.epoch == epoch_ ? std::max(flow.order, order) : order};
}

}  // namespace twill
