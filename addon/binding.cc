// The boundary to JavaScript: a handful of functions, one crossing per batch.
//
// Everything that can fail returns a number, a negative one being -errno, or an object with `errno` and `operation`;
// nothing here throws but for a call with wrong arguments (a TypeError), logs, or allocates once packets flow. Engines
// are known to JavaScript by number; ports belong to the worker that attached them. When an environment is torn down,
// its cleanup hook stops the engines it opened, so a worker blocked in Step returns even if JavaScript forgot it.

#include <napi.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "packet/checksum.h"
#include "engine/engine.h"
#include "icmp_binding.h"
#include "engine/inbound.h"
#include "engine/outbound.h"
#include "kernel/tun.h"
#include "kernel/udp_socket.h"

namespace twill {

namespace {

// State of one environment: the engines it opened. Touched on that environment's thread only.
struct Environment {
  std::vector<int32_t> opened;
};

Napi::Value Undefined(const Napi::Env& env) { return env.Undefined(); }

bool CheckArguments(const Napi::CallbackInfo& info, size_t count, const char* usage) {
  bool good = info.Length() >= count;
  for (size_t i = 0; good && i < count; i++) good = !info[i].IsUndefined();
  if (!good) Napi::TypeError::New(info.Env(), usage).ThrowAsJavaScriptException();
  return good;
}

uint32_t Word(const Napi::Object& from, const char* key) { return from.Get(key).ToNumber().Uint32Value(); }

bool Flag(const Napi::Object& from, const char* key) { return from.Get(key).ToBoolean().Value(); }

Napi::Object FailureObject(const Napi::Env& env, const Failure& failure) {
  auto object = Napi::Object::New(env);
  object.Set("errno", failure.error);
  object.Set("operation", failure.operation);
  return object;
}

// open(options) → {id, ...granted} or {errno, operation}
Napi::Value Open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!CheckArguments(info, 1, "open(options)")) return Undefined(env);
  if (!info[0].IsObject()) {
    Napi::TypeError::New(env, "open(options): options is no object").ThrowAsJavaScriptException();
    return Undefined(env);
  }
  const auto from = info[0].As<Napi::Object>();
  EngineOptions options;
  options.device = from.Get("device").ToString().Utf8Value();
  options.listen_address = Word(from, "listenAddress");
  options.port = static_cast<uint16_t>(Word(from, "port"));
  options.queues = static_cast<int32_t>(Word(from, "queues"));
  const auto offload = from.Get("offload").ToObject();
  options.offload = {Flag(offload, "udpSegment"), Flag(offload, "udpGro"),   Flag(offload, "tunTso"),
                     Flag(offload, "tunUso"),     Flag(offload, "mergeTcp"), Flag(offload, "mergeUdp"),
                     Flag(offload, "tunQueueBound")};
  options.reply_source = Word(from, "replySource");
  options.own_address = Word(from, "ownAddress");
  options.broadcast = Word(from, "broadcast");
  options.buffer_bytes = static_cast<int32_t>(Word(from, "bufferBytes"));
  options.rules.reserved = from.Get("reserved").ToBoolean().Value();
  options.rules.any_option = from.Get("anyOption").ToBoolean().Value();
  options.audit_options = from.Get("auditOptions").ToBoolean().Value();
  if (options.queues < 1 || options.queues > 256 || options.device.empty() || options.device.size() > 15) {
    return FailureObject(env, {EINVAL, "open"});
  }
  Result<std::shared_ptr<Engine>> opened = OpenEngine(std::move(options));
  if (!opened.ok()) return FailureObject(env, opened.failure());
  const Engine& engine = *opened.value();
  env.GetInstanceData<Environment>()->opened.push_back(engine.id());
  const Granted& granted = engine.granted();
  auto result = Napi::Object::New(env);
  result.Set("id", engine.id());
  result.Set("deviceIndex", granted.device_index);
  result.Set("tunOffloads", granted.tun);
  result.Set("udpGro", granted.udp_gro);
  result.Set("udpSegments", granted.udp_segments);
  result.Set("receiveBufferBytes", granted.receive_bytes);
  result.Set("sendBufferBytes", granted.send_bytes);
  result.Set("queueBytes", granted.queue_bytes);
  result.Set("checksum", ChecksumVariant());
  return result;
}

std::shared_ptr<Engine> EngineOf(const Napi::CallbackInfo& info, size_t count, const char* usage) {
  if (!CheckArguments(info, count, usage)) return nullptr;
  return FindEngine(info[0].ToNumber().Int32Value());
}

// probe(id) → {result, tcp, udp}: which superpackets the device takes. The device must be up; a result other than 0 asks
// for another call. Cheap once the answer is known, and tells whether it still holds.
Napi::Value Probe(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto engine = EngineOf(info, 1, "probe(id)");
  auto result = Napi::Object::New(env);
  result.Set("result", engine ? engine->ProbeMerging() : -ENOENT);
  result.Set("tcp", engine && engine->tcp_merge());
  result.Set("udp", engine && engine->udp_merge());
  return result;
}

// stop(id) → 0 or -errno
Napi::Value Stop(const Napi::CallbackInfo& info) {
  const auto engine = EngineOf(info, 1, "stop(id)");
  if (engine) engine->Stop();
  return Napi::Number::New(info.Env(), engine ? 0 : -ENOENT);
}

// close(id): stops it; descriptors close when the last port has gone.
Napi::Value Close(const Napi::CallbackInfo& info) {
  if (CheckArguments(info, 1, "close(id)")) CloseEngine(info[0].ToNumber().Int32Value());
  return Undefined(info.Env());
}

// forgetDevice(id) → 0 or -errno: the device goes when the engine closes.
Napi::Value ForgetDevice(const Napi::CallbackInfo& info) {
  const auto engine = EngineOf(info, 1, "forgetDevice(id)");
  return Napi::Number::New(info.Env(), engine ? ForgetTun(engine->queue(0).tun.get()) : -ENOENT);
}

template <typename Block>
void AddCounters(const Block& block, const Offender* offenders, Napi::Float64Array& values,
                 Napi::Uint32Array& addresses) {
  for (size_t i = 0; i < Block::kSize; i++) {
    values[i] += static_cast<double>(block.Get(i));
    if (offenders[i].source.load(std::memory_order_relaxed) == 0 && offenders[i].outer.load(std::memory_order_relaxed) == 0) {
      continue;
    }
    addresses[3 * i] = offenders[i].outer.load(std::memory_order_relaxed);
    addresses[3 * i + 1] = offenders[i].source.load(std::memory_order_relaxed);
    addresses[3 * i + 2] = offenders[i].destination.load(std::memory_order_relaxed);
  }
}

// readCounters(id, outbound: boolean, values: Float64Array, offenders: Uint32Array) → 0 or -errno
// Adds every queue's counters to `values`; `offenders` gets three words (outer, inner source, inner destination) each.
Napi::Value ReadCounters(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto engine = EngineOf(info, 4, "readCounters(id, outbound, values, offenders)");
  if (!engine) return Napi::Number::New(env, -ENOENT);
  const bool outbound = info[1].ToBoolean().Value();
  const size_t size = outbound ? CounterBlock<Outbound>::kSize : CounterBlock<Inbound>::kSize;
  if (!info[2].IsTypedArray() || !info[3].IsTypedArray()) return Napi::Number::New(env, -EINVAL);
  auto values = info[2].As<Napi::Float64Array>();
  auto addresses = info[3].As<Napi::Uint32Array>();
  if (values.TypedArrayType() != napi_float64_array || addresses.TypedArrayType() != napi_uint32_array ||
      values.ElementLength() < size || addresses.ElementLength() < 3 * size) {
    return Napi::Number::New(env, -EINVAL);
  }
  for (size_t i = 0; i < engine->queue_count(); i++) {
    Queue& queue = engine->queue(i);
    if (outbound) {
      AddCounters(queue.outbound, queue.outbound_offenders, values, addresses);
    } else {
      AddCounters(queue.inbound, queue.inbound_offenders, values, addresses);
    }
  }
  return Napi::Number::New(env, 0);
}

// readPeers(id, values: Float64Array, first = 0) → 0 or -errno. Four values per row, from `first` on, for as many rows as
// fit: packets and bytes
// outbound, packets and bytes inbound.
Napi::Value ReadPeers(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto engine = EngineOf(info, 2, "readPeers(id, values)");
  if (!engine) return Napi::Number::New(env, -ENOENT);
  if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) {
    return Napi::Number::New(env, -EINVAL);
  }
  auto values = info[1].As<Napi::Float64Array>();
  const size_t first = std::min<size_t>(info[2].IsNumber() ? info[2].As<Napi::Number>().Uint32Value() : 0, kMaxRows);
  const size_t rows = std::min<size_t>(values.ElementLength() / 4, kMaxRows - first);
  for (size_t q = 0; q < engine->queue_count(); q++) {
    Queue& queue = engine->queue(q);
    for (size_t row = 0; row < rows; row++) {
      const PeerCounter& out = queue.outbound_peers[first + row];
      const PeerCounter& in = queue.inbound_peers[first + row];
      values[4 * row] += static_cast<double>(out.packets.load(std::memory_order_relaxed));
      values[4 * row + 1] += static_cast<double>(out.bytes.load(std::memory_order_relaxed));
      values[4 * row + 2] += static_cast<double>(in.packets.load(std::memory_order_relaxed));
      values[4 * row + 3] += static_cast<double>(in.bytes.load(std::memory_order_relaxed));
    }
  }
  return Napi::Number::New(env, 0);
}

// readBeats(id, values: Uint32Array) → 0 or -errno. Two values a queue: the heartbeats of its outbound and inbound worker.
Napi::Value ReadBeats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto engine = EngineOf(info, 2, "readBeats(id, values)");
  if (!engine) return Napi::Number::New(env, -ENOENT);
  if (!info[1].IsTypedArray() || info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array) {
    return Napi::Number::New(env, -EINVAL);
  }
  auto values = info[1].As<Napi::Uint32Array>();
  if (values.ElementLength() < 2 * engine->queue_count()) return Napi::Number::New(env, -EINVAL);
  for (size_t q = 0; q < engine->queue_count(); q++) {
    values[2 * q] = engine->queue(q).outbound_beats.load(std::memory_order_relaxed);
    values[2 * q + 1] = engine->queue(q).inbound_beats.load(std::memory_order_relaxed);
  }
  return Napi::Number::New(env, 0);
}

// nameThread(name): the name of the calling thread, of which the kernel keeps 15 bytes; for top -H and /proc.
Napi::Value NameThread(const Napi::CallbackInfo& info) {
  if (!CheckArguments(info, 1, "nameThread(name)")) return Undefined(info.Env());
  ::prctl(PR_SET_NAME, info[0].ToString().Utf8Value().c_str(), 0, 0, 0);
  return Undefined(info.Env());
}

// exitNow(code): ends the process without waiting for its threads, which exit() of Node joins.
Napi::Value ExitNow(const Napi::CallbackInfo& info) {
  if (CheckArguments(info, 1, "exitNow(code)")) ::_exit(info[0].ToNumber().Int32Value());
  return Undefined(info.Env());
}

// socketDrops(id) → datagrams lost to full receive buffers
Napi::Value ReadSocketDrops(const Napi::CallbackInfo& info) {
  const auto engine = EngineOf(info, 1, "socketDrops(id)");
  double drops = 0;
  for (size_t i = 0; engine && i < engine->queue_count(); i++) drops += SocketDrops(engine->queue(i).udp.get());
  return Napi::Number::New(info.Env(), drops);
}

// innerPathMtu(source, peer, port) → bytes, or -errno
Napi::Value InnerPathMtu(const Napi::CallbackInfo& info) {
  if (!CheckArguments(info, 3, "innerPathMtu(source, peer, port)")) return info.Env().Undefined();
  const uint32_t source = info[0].ToNumber().Uint32Value();
  const uint32_t peer = info[1].ToNumber().Uint32Value();
  const auto port = static_cast<uint16_t>(info[2].ToNumber().Uint32Value());
  return Napi::Number::New(info.Env(), QueryInnerPathMtu(source, peer, port));
}

// sdNotify(path, text) → 0 or -errno. sd_notify(3): one datagram to an AF_UNIX socket, "@" meaning the abstract space.
Napi::Value SdNotify(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!CheckArguments(info, 2, "sdNotify(path, text)")) return Undefined(env);
  const std::string path = info[0].ToString().Utf8Value();
  const std::string text = info[1].ToString().Utf8Value();
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof name.sun_path) return Napi::Number::New(env, -EINVAL);
  std::memcpy(name.sun_path, path.data(), path.size());
  if (path[0] == '@') name.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  const UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Napi::Number::New(env, -errno);
  const ssize_t sent = ::sendto(fd.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                                reinterpret_cast<const sockaddr*>(&name), length);
  return Napi::Number::New(env, sent < 0 ? -errno : 0);
}

// new Port(id, queue, outboundArena | null, inboundArena | null): one or both directions of a queue, for one thread.
//   stepOutbound(), stepInbound() → descriptors to judge, 0 when there is nothing, or -errno
//   A step that finds nothing sleeps, kMaxWaitMs at most, and looks again.
//   close()
class Port : public Napi::ObjectWrap<Port> {
 public:
  static Napi::Function Class(const Napi::Env& env) {
    return DefineClass(env, "Port",
                       {InstanceMethod("stepOutbound", &Port::StepOutbound),
                        InstanceMethod("stepInbound", &Port::StepInbound), InstanceMethod("close", &Port::ClosePort)});
  }

  explicit Port(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    engine_ = EngineOf(info, 4, "new Port(id, queue, outboundArena, inboundArena)");
    const Napi::Env env = info.Env();
    if (env.IsExceptionPending()) return;
    queue_ = engine_ ? info[1].ToNumber().Uint32Value() : 0;
    const bool has_outbound = IsArena(info[2], kOutboundArenaWords);
    const bool has_inbound = IsArena(info[3], kInboundArenaWords);
    if (!engine_ || queue_ >= engine_->queue_count() || !(has_outbound || info[2].IsNull()) ||
        !(has_inbound || info[3].IsNull()) || (!has_outbound && !has_inbound)) {
      engine_.reset();
      Napi::TypeError::New(env, "no such engine or queue, or an arena is no ArrayBuffer of the right size")
          .ThrowAsJavaScriptException();
      return;
    }
    if (has_outbound) outbound_ = std::make_unique<OutboundPort>(engine_, queue_, Hold(info[2], &outbound_arena_));
    if (has_inbound) inbound_ = std::make_unique<InboundPort>(engine_, queue_, Hold(info[3], &inbound_arena_));
    NameThread(has_outbound ? "outbound" : "inbound");
  }

 private:
  // For `top -H`: Node names a worker's thread from 22 on only. The main thread's name is the process's.
  void NameThread(const char* direction) const {
    if (::syscall(SYS_gettid) == ::getpid()) return;
    char name[16];
    std::snprintf(name, sizeof name, "%s-%zu", direction, queue_ % 1000);
    ::prctl(PR_SET_NAME, name);
  }

  static bool IsArena(const Napi::Value& value, size_t words) {
    return value.IsArrayBuffer() && value.As<Napi::ArrayBuffer>().ByteLength() == words * sizeof(int32_t);
  }

  static int32_t* Hold(const Napi::Value& value, Napi::Reference<Napi::ArrayBuffer>* reference) {
    auto arena = value.As<Napi::ArrayBuffer>();
    *reference = Napi::Persistent(arena);
    return static_cast<int32_t*>(arena.Data());
  }

  Napi::Value StepOutbound(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), StepOrSleep(outbound_.get()));
  }

  Napi::Value StepInbound(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), StepOrSleep(inbound_.get()));
  }

  // One crossing for a batch: when there is nothing, sleeps and looks once more before it returns to JavaScript.
  template <typename Direction>
  int32_t StepOrSleep(Direction* direction) {
    if (direction == nullptr) return -EBADF;
    const int32_t count = direction->Step();
    if (count != 0) return count;
    const int error = Sleep();
    return error != 0 ? error : direction->Step();
  }

  int Sleep() {
    Queue& queue = engine_->queue(queue_);
    // poll() ignores a negative descriptor. A socket error wakes it too, and is gone once the step has received.
    pollfd wait[3] = {{engine_->stop_fd(), POLLIN, 0},
                      {outbound_ ? queue.tun.get() : -1, POLLIN, 0},
                      {inbound_ ? queue.udp.get() : -1, POLLIN, 0}};
    // Bounded, because a thread that is to be terminated (process.exit) notices only when it returns to JavaScript.
    if (::poll(wait, 3, kMaxWaitMs) < 0) return errno == EINTR ? 0 : -errno;
    if ((wait[0].revents & POLLIN) != 0) return -ECANCELED;
    // A deleted device polls as an error for ever.
    if ((wait[1].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) return -EBADFD;
    return 0;
  }

  Napi::Value ClosePort(const Napi::CallbackInfo& info) {
    outbound_.reset();
    inbound_.reset();
    outbound_arena_.Reset();
    inbound_arena_.Reset();
    engine_.reset();
    return Undefined(info.Env());
  }

  std::shared_ptr<Engine> engine_;
  size_t queue_ = 0;
  Napi::Reference<Napi::ArrayBuffer> outbound_arena_;
  Napi::Reference<Napi::ArrayBuffer> inbound_arena_;
  std::unique_ptr<OutboundPort> outbound_;
  std::unique_ptr<InboundPort> inbound_;
};

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
#undef TWILL_NAME
  layout.Set("outboundCapacity", kOutboundCapacity);
  layout.Set("inboundCapacity", kInboundCapacity);
  layout.Set("outboundFields", static_cast<int32_t>(outbound_field::kCount));
  layout.Set("inboundFields", static_cast<int32_t>(inbound_field::kCount));
  layout.Set("outboundArenaWords", static_cast<double>(kOutboundArenaWords));
  layout.Set("inboundArenaWords", static_cast<double>(kInboundArenaWords));
  layout.Set("controlWords", static_cast<int32_t>(control::kWords));
  layout.Set("maxRows", kMaxRows);
  layout.Set("outerHeaderBytes", kOuterHeaders);
  layout.Set("tunUso4", kTunUso4);
  layout.Set("tunTso4", kTunTso4);
  layout.Set("tunTso6", kTunTso6);
  layout.Set("tunTsoEcn", kTunTsoEcn);
  layout.Set("tunCsum", kTunCsum);
  return layout;
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment;
  env.SetInstanceData(environment);
  env.AddCleanupHook(
      [](Environment* state) {
        for (int32_t id : state->opened) CloseEngine(id);
        state->opened.clear();
      },
      environment);
  exports.Set("open", Napi::Function::New(env, Open, "open"));
  exports.Set("probe", Napi::Function::New(env, Probe, "probe"));
  exports.Set("stop", Napi::Function::New(env, Stop, "stop"));
  exports.Set("close", Napi::Function::New(env, Close, "close"));
  exports.Set("forgetDevice", Napi::Function::New(env, ForgetDevice, "forgetDevice"));
  exports.Set("readCounters", Napi::Function::New(env, ReadCounters, "readCounters"));
  exports.Set("readPeers", Napi::Function::New(env, ReadPeers, "readPeers"));
  exports.Set("readBeats", Napi::Function::New(env, ReadBeats, "readBeats"));
  exports.Set("nameThread", Napi::Function::New(env, NameThread, "nameThread"));
  exports.Set("exitNow", Napi::Function::New(env, ExitNow, "exitNow"));
  exports.Set("socketDrops", Napi::Function::New(env, ReadSocketDrops, "socketDrops"));
  exports.Set("innerPathMtu", Napi::Function::New(env, InnerPathMtu, "innerPathMtu"));
  exports.Set("sdNotify", Napi::Function::New(env, SdNotify, "sdNotify"));
  exports.Set("layout", Layout(env));
  exports.Set("Port", Port::Class(env));
  exports.Set("IcmpSocket", IcmpSocket::Class(env));
  return exports;
}

NODE_API_MODULE(twill, Init)

}  // namespace

}  // namespace twill
