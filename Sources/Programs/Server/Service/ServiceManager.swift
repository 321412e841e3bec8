import CSystem
import KnockBase

/// What systemd, or whoever does as it does, tells a service by its environment, and is told by it. Source:
/// sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).
struct ServiceManager: ~Copyable {
  private static let firstDescriptor: Int32 = 3
  /// Between attempts to tell it something (milliseconds).
  static let retryInterval: Int64 = 100
  /// No watchdog is less patient (milliseconds).
  private static let leastPatience: Int64 = 40

  /// Nil where nobody wants to be told.
  private let socket: Descriptor?
  /// Within so much time it wants to hear that we live; nil where it does not (milliseconds).
  let watchdogMilliseconds: Int64?
  /// When to call `tellReady` again, in monotonic milliseconds.
  private(set) var readyTime = Int64.max

  init(_ report: Report) {
    var socket: Descriptor?
    if let name = Environment.variable("NOTIFY_SOCKET") {
      let result = unsafe csys_unix_socket(name.pointer)
      if result < 0 {
        report.write("NOTIFY_SOCKET", name) { $0.append(SystemError(number: -result)) }
      } else {
        socket = Descriptor(owning: result)
      }
    }
    self.socket = socket
    let isOurs = Environment.number("WATCHDOG_PID").map { $0 == Int64(getpid()) } ?? true
    let microseconds = isOurs ? Environment.number("WATCHDOG_USEC") : nil
    watchdogMilliseconds = microseconds.flatMap {
      $0 > 0 ? max($0 / 1000, Self.leastPatience) : nil
    }
  }

  /// Whether it wants to be told anything.
  var listens: Bool {
    switch socket {
    case .some: true
    case nil: false
    }
  }

  /// Tells it `STOPPING=1`, for one. False where its queue is full.
  @discardableResult
  func tell(_ state: StaticString) -> Bool {
    switch socket {
    case .some(let socket):
      unsafe csys_send(socket.number, state.utf8Start, state.utf8CodeUnitCount) != -EAGAIN
    case nil: true
    }
  }

  /// Tells it that all is in place, now or as soon as it can be told: it waits for that.
  mutating func tellReady(now: Int64) {
    readyTime = tell("READY=1") ? .max : now + Self.retryInterval
  }

  /// Tells it that something is being read anew, and when that began.
  func tellReloading() {
    switch socket {
    case .some(let socket):
      var message = Line()
      message.append("RELOADING=1\nMONOTONIC_USEC=")
      message.append(csys_uptime_microseconds())
      message.withBytes { bytes in
        _ = unsafe bytes.withUnsafeBytes {
          unsafe csys_send(socket.number, $0.baseAddress, $0.count)
        }
      }
    case nil: break
    }
  }

  enum Passed: ~Copyable {
    case none
    case socket(UDPSocket)
    /// Not one UDP socket, but something else.
    case other
  }

  /// The socket that was passed on to us, to be asked for once.
  static func passedSocket() -> Passed {
    guard let count = Environment.number("LISTEN_FDS"),
      Environment.number("LISTEN_PID") == Int64(getpid())
    else { return .none }
    guard count == 1 else { return .other }
    do throws(SystemError) {
      return .socket(try UDPSocket(adopting: firstDescriptor))
    } catch { return .other }
  }

  /// Whether a variable is for us alone.
  static func owns(_ variable: Span<UInt8>) -> Bool {
    variable.hasPrefix("NOTIFY_SOCKET=") || variable.hasPrefix("WATCHDOG_")
      || variable.hasPrefix("LISTEN_")
  }
}
