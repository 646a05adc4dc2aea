// The boundary to JavaScript: a handful of functions, one crossing per batch.
//
// Nothing on this side throws but for a call with wrong arguments (a TypeError), logs, or allocates once packets flow;
// arguments.h says how errors cross. Engines are known to JavaScript by number; ports belong to the worker that
// attached them. When an environment is torn down, its cleanup hook stops the engines it opened, so a worker blocked in
// a step returns even if JavaScript forgot it. src/native/native.ts is the other side.

#include <napi.h>

#include <vector>

#include "binding/engine_calls.h"
#include "binding/icmp_socket.h"
#include "binding/lane_calls.h"
#include "binding/port.h"
#include "binding/process_calls.h"
#include "engine/inbound.h"
#include "engine/outbound.h"
#include "kernel/tun.h"
#include "kernel/udp_socket.h"
#include "lane/layout.h"

namespace twill {

namespace {

Napi::Array Names(const Napi::Env& env, const std::vector<const char*>& names) {
  auto array = Napi::Array::New(env, names.size());
  for (uint32_t i = 0; i < names.size(); i++) array.Set(i, names[i]);
  return array;
}

// The constants TypeScript repeats; test/boundary compares them.
Napi::Object Layout(const Napi::Env& env) {
#define TWILL_NAME(name) #name,
  auto layout = Napi::Object::New(env);
  layout.Set("outboundCounters", Names(env, {TWILL_OUTBOUND_COUNTERS(TWILL_NAME)}));
  layout.Set("inboundCounters", Names(env, {TWILL_INBOUND_COUNTERS(TWILL_NAME)}));
  layout.Set("laneTotals", Names(env, {TWILL_LANE_TOTALS(TWILL_NAME)}));
#undef TWILL_NAME
  layout.Set("outboundCapacity", kOutboundCapacity);
  layout.Set("inboundCapacity", kInboundCapacity);
  layout.Set("outboundFields", static_cast<int32_t>(outbound_field::kCount));
  layout.Set("inboundFields", static_cast<int32_t>(inbound_field::kCount));
  layout.Set("outboundArenaWords", static_cast<double>(kOutboundArenaWords));
  layout.Set("inboundArenaWords", static_cast<double>(kInboundArenaWords));
  layout.Set("controlWords", static_cast<int32_t>(control::kWords));
  layout.Set("laneProofMs", static_cast<double>(kProofNs / 1'000'000));
  layout.Set("maxRows", kMaxRows);
  layout.Set("outerHeaderBytes", kOuterHeaders);
  layout.Set("outerHeaderBytesV6", kOuterHeadersV6);
  layout.Set("tunUso4", kTunUso4);
  layout.Set("tunTso4", kTunTso4);
  layout.Set("tunTso6", kTunTso6);
  layout.Set("tunTsoEcn", kTunTsoEcn);
  layout.Set("tunCsum", kTunCsum);
  return layout;
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  AddEngineCalls(env, exports);
  AddLaneCalls(env, exports);
  AddProcessCalls(env, exports);
  exports.Set("OutboundPort", Port<OutboundPort>::Class(env));
  exports.Set("InboundPort", Port<InboundPort>::Class(env));
  exports.Set("IcmpSocket", IcmpSocket::Class(env));
  exports.Set("layout", Layout(env));
  return exports;
}

NODE_API_MODULE(twill, Init)

}  // namespace

}  // namespace twill
