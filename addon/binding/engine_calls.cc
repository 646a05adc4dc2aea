#include "binding/engine_calls.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <vector>

#include "binding/arguments.h"
#include "kernel/tun.h"
#include "kernel/udp_socket.h"
#include "packet/checksum.h"

namespace twill {

namespace {

constexpr int32_t kMaxQueues = 256;
constexpr size_t kMaxDeviceName = 15;  // IFNAMSIZ without its 0

// State of one environment: the engines it opened. Touched on that environment's thread only.
struct Environment {
  std::vector<int32_t> opened;
};

uint32_t Word(const Napi::Object& from, const char* key) { return from.Get(key).ToNumber().Uint32Value(); }

bool Flag(const Napi::Object& from, const char* key) { return from.Get(key).ToBoolean().Value(); }

// What is there of one family.
std::optional<Napi::Object> Family(const Napi::Object& from, const char* key, const char* family) {
  const Napi::Value value = from.Get(key).ToObject().Get(family);
  if (!value.IsObject()) return std::nullopt;
  return value.As<Napi::Object>();
}

EngineOptions OptionsOf(const Napi::Object& from) {
  const auto offload = from.Get("offload").ToObject();
  EngineOptions options;
  options.device = from.Get("device").ToString().Utf8Value();
  const auto listen = from.Get("listen").ToObject();
  for (const bool is_v6 : {false, true}) {
    const Napi::Value address = listen.Get(is_v6 ? "v6" : "v4");
    if (!address.IsUndefined()) options.listen[is_v6] = HostOf(address).address;
  }
  options.port = static_cast<uint16_t>(Word(from, "port"));
  options.queues = static_cast<int32_t>(Word(from, "queues"));
  options.offload = {Flag(offload, "udpSegment"), Flag(offload, "udpGro"),   Flag(offload, "tunTso"),
                     Flag(offload, "tunUso"),     Flag(offload, "mergeTcp"), Flag(offload, "mergeUdp"),
                     Flag(offload, "tunQueueBound")};
  const std::optional<Napi::Object> inner[2] = {Family(from, "inner", "v4"), Family(from, "inner", "v6")};
  options.families = {inner[0].has_value(), inner[1].has_value()};
  options.broadcast = inner[0] ? Word(*inner[0], "broadcast") : 0;
  for (const bool is_v6 : {false, true}) {
    const auto& family = inner[is_v6];
    options.reply_source[is_v6] = family ? HostOf(family->Get("replySource")).address : Address{};
    options.own_address[is_v6] = family ? HostOf(family->Get("ownAddress")).address : Address{};
  }
  options.buffer_bytes = static_cast<int32_t>(Word(from, "bufferBytes"));
  options.rules.reserved = Flag(from, "reserved");
  options.rules.any_option = Flag(from, "anyOption");
  options.audit_options = Flag(from, "auditOptions");
  const auto adopted = from.Get("adopted");
  if (adopted.IsObject()) {
    options.adopted_tun = Descriptors(adopted.As<Napi::Object>().Get("tun"));
    options.adopted_udp[0] = Descriptors(adopted.As<Napi::Object>().Get("udp4"));
    options.adopted_udp[1] = Descriptors(adopted.As<Napi::Object>().Get("udp6"));
  }
  return options;
}

Napi::Object ToObject(const Napi::Env& env, const Engine& engine) {
  const Granted& granted = engine.granted();
  auto object = Napi::Object::New(env);
  object.Set("id", engine.id());
  object.Set("deviceIndex", granted.device_index);
  object.Set("tunOffloads", granted.tun);
  object.Set("udpGro", granted.udp_gro);
  object.Set("udpSegments", granted.udp_segments);
  object.Set("receiveBufferBytes", granted.receive_bytes);
  object.Set("sendBufferBytes", granted.send_bytes);
  object.Set("queueBytes", granted.queue_bytes);
  object.Set("checksum", ChecksumVariant());
  return object;
}

// open(options) → {id, ...granted} or {errno, operation}
Napi::Value Open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!CheckArguments(info, 1, "open(options)")) return env.Undefined();
  if (!info[0].IsObject()) {
    ThrowTypeError(env, "open(options): options is no object");
    return env.Undefined();
  }
  EngineOptions options = OptionsOf(info[0].As<Napi::Object>());
  if (options.queues < 1 || options.queues > kMaxQueues || options.device.empty() ||
      options.device.size() > kMaxDeviceName) {
    return ToObject(env, Failure{EINVAL, "open"});
  }
  Result<std::shared_ptr<Engine>> opened = OpenEngine(std::move(options));
  if (!opened.ok()) return ToObject(env, opened.failure());
  env.GetInstanceData<Environment>()->opened.push_back(opened.value()->id());
  return ToObject(env, *opened.value());
}

// descriptors(id) → {tun: number[], udp4: number[], udp6: number[], turns: []}, by queue: to be handed on, and never to
// be closed.
Napi::Value DescriptorsOf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto engine = EngineOf(info, 1, "descriptors(id)");
  Napi::Array tun = Napi::Array::New(env), udp4 = Napi::Array::New(env), udp6 = Napi::Array::New(env);
  for (uint32_t i = 0; engine && i < engine->queue_count(); i++) {
    const Queue& queue = engine->queue(i);
    tun.Set(i, queue.tun.get());
    if (queue.outer[0].udp.valid()) udp4.Set(i, queue.outer[0].udp.get());
    if (queue.outer[1].udp.valid()) udp6.Set(i, queue.outer[1].udp.get());
  }
  auto object = Napi::Object::New(env);
  object.Set("tun", tun);
  object.Set("udp4", udp4);
  object.Set("udp6", udp6);
  object.Set("turns", Napi::Array::New(env));
  return object;
}

// turns(id) → number[], the outbound and the inbound worker of each queue, of which none is to be closed; -errno
Napi::Value TurnsOf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto engine = EngineOf(info, 1, "turns(id)");
  if (!engine) return ToNumber(env, -ENOENT);
  Napi::Array turns = Napi::Array::New(env);
  uint32_t count = 0;
  for (size_t i = 0; i < engine->queue_count(); i++) {
    for (Turn* turn : {&engine->queue(i).outbound_turn, &engine->queue(i).inbound_turn}) {
      const int fd = turn->Open();
      if (fd < 0) return ToNumber(env, fd);
      turns.Set(count++, fd);
    }
  }
  return turns;
}

// awaitTurn(fd, timeoutMs) → 0 or -errno. Blocks the thread.
Napi::Value AwaitTurnCall(const Napi::CallbackInfo& info) {
  if (!CheckArguments(info, 2, "awaitTurn(fd, timeoutMs)")) return info.Env().Undefined();
  return ToNumber(info.Env(), AwaitTurn(info[0].ToNumber().Int32Value(), info[1].ToNumber().Int32Value()));
}

// probe(id) → {result, tcp, udp}: which superpackets the device takes. The device must be up; a result other than 0
// asks for another call. Cheap once the answer is known, and tells whether it still holds.
Napi::Value Probe(const Napi::CallbackInfo& info) {
  const auto engine = EngineOf(info, 1, "probe(id)");
  auto result = Napi::Object::New(info.Env());
  result.Set("result", engine ? engine->ProbeMerging() : -ENOENT);
  result.Set("tcp", engine && engine->tcp_merge());
  result.Set("udp", engine && engine->udp_merge());
  return result;
}

// stop(id) → 0 or -errno
Napi::Value Stop(const Napi::CallbackInfo& info) {
  const auto engine = EngineOf(info, 1, "stop(id)");
  if (engine) engine->Stop();
  return ToNumber(info.Env(), engine ? 0 : -ENOENT);
}

// close(id): stops it; descriptors close when the last port has gone.
Napi::Value Close(const Napi::CallbackInfo& info) {
  if (CheckArguments(info, 1, "close(id)")) CloseEngine(info[0].ToNumber().Int32Value());
  return info.Env().Undefined();
}

// leaveDevice(id) → 0 or -errno: another process has its descriptors, and goes on with it.
Napi::Value LeaveDevice(const Napi::CallbackInfo& info) {
  const auto engine = EngineOf(info, 1, "leaveDevice(id)");
  if (engine) engine->Leave();
  return ToNumber(info.Env(), engine ? 0 : -ENOENT);
}

// forgetDevice(id) → 0 or -errno: the device goes when the engine closes, and its lane with it.
Napi::Value ForgetDevice(const Napi::CallbackInfo& info) {
  const auto engine = EngineOf(info, 1, "forgetDevice(id)");
  if (!engine) return ToNumber(info.Env(), -ENOENT);
  engine->lanes().Unpin();
  return ToNumber(info.Env(), ForgetTun(engine->queue(0).tun.get()));
}

template <typename Block>
void AddCounters(const Block& block, const Offender* offenders, Napi::Float64Array& values,
                 Napi::Uint32Array& addresses) {
  for (size_t i = 0; i < Block::kSize; i++) {
    values[i] += static_cast<double>(block.Get(i));
    uint32_t words[Offender::kWords];
    uint32_t any = 0;
    for (size_t w = 0; w < Offender::kWords; w++) {
      words[w] = offenders[i].words[w].load(std::memory_order_relaxed);
      any |= words[w];
    }
    if (any == 0) continue;
    for (size_t w = 0; w < Offender::kWords; w++) addresses[Offender::kWords * i + w] = words[w];
  }
}

// readCounters(id, outbound: boolean, values: Float64Array, offenders: Uint32Array) → 0 or -errno
// Adds every queue's counters to `values`; `offenders` gets 13 words each: 1 for an
// outer host of IPv6 and 2 for inner ones, then four words of the outer host, inner source and inner destination.
Napi::Value ReadCounters(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto engine = EngineOf(info, 4, "readCounters(id, outbound, values, offenders)");
  if (!engine) return ToNumber(env, -ENOENT);
  const bool outbound = info[1].ToBoolean().Value();
  const size_t size = outbound ? CounterBlock<Outbound>::kSize : CounterBlock<Inbound>::kSize;
  auto values = Float64s(info[2], size);
  auto addresses = Uint32s(info[3], Offender::kWords * size);
  if (!values || !addresses) return ToNumber(env, -EINVAL);
  for (size_t i = 0; i < engine->queue_count(); i++) {
    Queue& queue = engine->queue(i);
    if (outbound) {
      AddCounters(queue.outbound, queue.outbound_offenders, *values, *addresses);
    } else {
      AddCounters(queue.inbound, queue.inbound_offenders, *values, *addresses);
    }
  }
  return ToNumber(env, 0);
}

void AddLanePeers(const Lane& lane, size_t first, size_t rows, Napi::Float64Array& values) {
  for (size_t row = 0; row < rows; row++) {
    const LanePeer& peer = lane.peer(first + row);
    values[4 * row] += static_cast<double>(peer.out_packets);
    values[4 * row + 1] += static_cast<double>(peer.out_bytes);
    values[4 * row + 2] += static_cast<double>(peer.in_packets);
    values[4 * row + 3] += static_cast<double>(peer.in_bytes);
  }
}

// readPeers(id, values: Float64Array, first = 0) → 0 or -errno. Adds four values per row, from `first` on, for as many
// rows as fit: packets and bytes outbound, packets and bytes inbound.
Napi::Value ReadPeers(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto engine = EngineOf(info, 2, "readPeers(id, values)");
  if (!engine) return ToNumber(env, -ENOENT);
  auto values = Float64s(info[1], 0);
  if (!values) return ToNumber(env, -EINVAL);
  const size_t first = std::min<size_t>(info[2].IsNumber() ? info[2].As<Napi::Number>().Uint32Value() : 0, kMaxRows);
  const size_t rows = std::min<size_t>(values->ElementLength() / 4, kMaxRows - first);
  for (size_t q = 0; q < engine->queue_count(); q++) {
    Queue& queue = engine->queue(q);
    for (size_t row = 0; row < rows; row++) {
      const PeerCounter& out = queue.outbound_peers[first + row];
      const PeerCounter& in = queue.inbound_peers[first + row];
      (*values)[4 * row] += static_cast<double>(out.packets.load(std::memory_order_relaxed));
      (*values)[4 * row + 1] += static_cast<double>(out.bytes.load(std::memory_order_relaxed));
      (*values)[4 * row + 2] += static_cast<double>(in.packets.load(std::memory_order_relaxed));
      (*values)[4 * row + 3] += static_cast<double>(in.bytes.load(std::memory_order_relaxed));
    }
  }
  if (const Lane* lane = engine->lanes().latest()) AddLanePeers(*lane, first, rows, *values);
  return ToNumber(env, 0);
}

// readBeats(id, values: Uint32Array) → 0 or -errno. Two values a queue: the heartbeats of its outbound and its inbound
// worker.
Napi::Value ReadBeats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto engine = EngineOf(info, 2, "readBeats(id, values)");
  if (!engine) return ToNumber(env, -ENOENT);
  auto values = Uint32s(info[1], 2 * engine->queue_count());
  if (!values) return ToNumber(env, -EINVAL);
  for (size_t q = 0; q < engine->queue_count(); q++) {
    (*values)[2 * q] = engine->queue(q).outbound_beats.load(std::memory_order_relaxed);
    (*values)[2 * q + 1] = engine->queue(q).inbound_beats.load(std::memory_order_relaxed);
  }
  return ToNumber(env, 0);
}

// socketDrops(id) → datagrams lost to full receive buffers
Napi::Value ReadSocketDrops(const Napi::CallbackInfo& info) {
  const auto engine = EngineOf(info, 1, "socketDrops(id)");
  double drops = 0;
  for (size_t i = 0; engine && i < engine->queue_count(); i++) {
    for (const OuterSockets& outer : engine->queue(i).outer) {
      if (outer.udp.valid()) drops += SocketDrops(outer.udp.get());
    }
  }
  return ToNumber(info.Env(), drops);
}

}  // namespace

std::shared_ptr<Engine> EngineOf(const Napi::CallbackInfo& info, size_t count, const char* usage) {
  if (!CheckArguments(info, count, usage)) return nullptr;
  return FindEngine(info[0].ToNumber().Int32Value());
}

void AddEngineCalls(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment;
  env.SetInstanceData(environment);
  env.AddCleanupHook(
      [](Environment* state) {
        for (int32_t id : state->opened) CloseEngine(id);
        state->opened.clear();
      },
      environment);
  exports.Set("open", Napi::Function::New(env, Open, "open"));
  exports.Set("descriptors", Napi::Function::New(env, DescriptorsOf, "descriptors"));
  exports.Set("turns", Napi::Function::New(env, TurnsOf, "turns"));
  exports.Set("awaitTurn", Napi::Function::New(env, AwaitTurnCall, "awaitTurn"));
  exports.Set("probe", Napi::Function::New(env, Probe, "probe"));
  exports.Set("stop", Napi::Function::New(env, Stop, "stop"));
  exports.Set("close", Napi::Function::New(env, Close, "close"));
  exports.Set("leaveDevice", Napi::Function::New(env, LeaveDevice, "leaveDevice"));
  exports.Set("forgetDevice", Napi::Function::New(env, ForgetDevice, "forgetDevice"));
  exports.Set("readCounters", Napi::Function::New(env, ReadCounters, "readCounters"));
  exports.Set("readPeers", Napi::Function::New(env, ReadPeers, "readPeers"));
  exports.Set("readBeats", Napi::Function::New(env, ReadBeats, "readBeats"));
  exports.Set("socketDrops", Napi::Function::New(env, ReadSocketDrops, "socketDrops"));
}

}  // namespace twill
