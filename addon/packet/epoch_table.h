// A small table by hash that is emptied at once, for what is remembered during one batch.
//
// A slot counts when it was written in the present epoch. Two hashes that share a slot share its value: whoever asks
// must be able to live with another's answer. Clear() is an increment, and once in every turn of the epoch it wipes the
// slots, because an entry of exactly one turn ago would come back to life: a train slot of then names a train that is
// not in use, and what is put there is never sent.
#pragma once

#include <array>
#include <cstdint>

namespace twill {

// `Epoch` is narrower in tests only.
template <typename Value, uint32_t kSlots, typename Epoch = uint32_t>
class EpochTable {
  static_assert((kSlots & (kSlots - 1)) == 0, "a power of two");

 public:
  // HOT
  // nullptr when nothing was put there since the last Clear.
  const Value* Find(uint32_t hash) const noexcept {
    const Slot& slot = slots_[hash % kSlots];
    return slot.epoch == epoch_ ? &slot.value : nullptr;
  }

  // HOT
  void Put(uint32_t hash, const Value& value) noexcept { slots_[hash % kSlots] = {epoch_, value}; }

  // HOT
  void Erase(uint32_t hash) noexcept { slots_[hash % kSlots].epoch = kNever; }

  // HOT
  void Clear() noexcept {
    if (++epoch_ != kNever) return;
    slots_.fill({});
    ++epoch_;
  }

 private:
  static constexpr Epoch kNever = 0;
  struct Slot {
    Epoch epoch;
    Value value;
  };
  std::array<Slot, kSlots> slots_{};
  Epoch epoch_ = kNever + 1;
};

}  // namespace twill
