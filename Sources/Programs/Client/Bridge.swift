import CSystem
import KnockBase

/// Passes on what comes in at the standard input to a connection, and what comes from there to the standard
/// output, until both have ended.
enum Bridge {
  /// One way: from a descriptor to another, through a buffer.
  private struct Way: ~Copyable {
    private static let size = 65_536

    let source: Int32
    let sink: Int32
    private let buffer: Storage<UInt8>
    private var start = 0
    private var end = 0
    private var hasEnded = false

    init?(from source: Int32, to sink: Int32) {
      guard let buffer = Storage<UInt8>.mapped(Self.size) else { return nil }
      self.source = source
      self.sink = sink
      self.buffer = buffer
    }

    var isOver: Bool { hasEnded && start == end }
    /// What to wait for.
    var waitsForSource: Bool { !hasEnded && start == end }
    var waitsForSink: Bool { start < end }

    /// Takes what is there.
    mutating func read() throws(SystemError) {
      guard let base = unsafe buffer.baseAddress else { return }
      let result = unsafe csys_read(source, base, buffer.count)
      if result == -EAGAIN { return }
      let count = Int(try SystemError.check(result))
      (start, end) = (0, count)
      hasEnded = count == 0
    }

    /// Hands over what there is room for.
    mutating func write() throws(SystemError) {
      guard let base = unsafe buffer.baseAddress else { return }
      let result = unsafe csys_write_now(sink, base + start, end - start)
      if result == -EAGAIN { return }
      start += Int(try SystemError.check(result))
    }
  }

  static func run(_ socket: consuming Descriptor, _ report: Report) -> ExitCode {
    guard var out = Way(from: 0, to: socket.number), var back = Way(from: socket.number, to: 1)
    else {
      report.write("memory", SystemError(number: ENOMEM))
      return .failure
    }
    do throws(SystemError) {
      try pass(&out, &back)
      return .success
    } catch {
      report.write("connection", error)
      return .connectionBroke
    }
  }

  private static func pass(_ out: inout Way, _ back: inout Way) throws(SystemError) {
    var (outIsOver, backIsOver) = (false, false)
    while !outIsOver || !backIsOver {
      var entries: InlineArray<4, pollfd> = [
        entry(out.source, POLLIN, if: out.waitsForSource),
        entry(out.sink, POLLOUT, if: out.waitsForSink),
        entry(back.source, POLLIN, if: back.waitsForSource),
        entry(back.sink, POLLOUT, if: back.waitsForSink),
      ]
      // As long as there is nothing to pass on; keepalive ends a connection whose other side is gone.
      try poll(&entries, until: .max)
      if entries[0].revents != 0 { try out.read() }
      if entries[1].revents != 0 { try out.write() }
      if entries[2].revents != 0 { try back.read() }
      if entries[3].revents != 0 { try back.write() }
      // Each end is told of as soon as it is there.
      if out.isOver, !outIsOver {
        csys_hang_up(out.sink)
        outIsOver = true
      }
      if back.isOver, !backIsOver {
        close(back.sink)
        backIsOver = true
      }
    }
  }

  private static func entry(_ descriptor: Int32, _ event: Int32, if isWanted: Bool) -> pollfd {
    pollfd(fd: isWanted ? descriptor : -1, events: Int16(event), revents: 0)
  }
}
