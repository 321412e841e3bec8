import CSystem
import KnockBase
import KnockProtocol

extension Sender {
  /// The most addresses of a host that are tried.
  private static var addressCount: Int { 8 }
  /// How long the first attempt may take (milliseconds); each further one twice as long, up to the limit.
  private static var firstPatience: Int64 { 100 }
  private static var patienceLimit: Int64 { 4000 }

  /// Connects to a TCP port of the host that was knocked on: tries all addresses at once, again and again,
  /// and knocks again where three attempts were in vain, since a datagram may be lost. Nil, with a report,
  /// where the port does not open in time.
  mutating func connect(to port: UInt16, seconds: Int64) -> Descriptor? {
    let deadline = Clock.monotonicMilliseconds() + seconds * 1000
    var patience = Self.firstPatience
    var failure = SystemError(number: ETIMEDOUT)
    var attempt = 0
    while true {
      if attempt >= 3 { _ = send(.open) }
      let end = min(deadline, Clock.monotonicMilliseconds() + patience)
      let number = attemptConnection(to: port, until: end, &failure)
      if number >= 0 { return Descriptor(owning: number) }
      guard Clock.monotonicMilliseconds() < deadline else { break }
      attempt += 1
      patience = min(2 * patience, Self.patienceLimit)
    }
    var line = Line()
    line.append("port ")
    line.append(port)
    line.append(" of ")
    line.append(quoted: host)
    line.append(" did not open within ")
    line.append(seconds)
    line.append(" s: ")
    line.append(failure)
    line.append(
      "; check that the clocks agree, the key, the server's port (-p), and behind NAT the outside")
    line.append(" address (-S)")
    report.write(line)
    return nil
  }

  /// The first connection that comes about; -1 where none does in time.
  private func attemptConnection(
    to port: UInt16, until end: Int64, _ failure: inout SystemError
  ) -> Int32 {
    var entries = InlineArray<8, pollfd>(
      repeating: pollfd(fd: -1, events: Int16(POLLOUT), revents: 0))
    for position in 0..<Self.addressCount {
      guard let address = addresses.address(at: position) else { break }
      let result = beginConnection(to: address.with(port: port))
      if result >= 0 {
        entries[position].fd = result
      } else if result != -EAFNOSUPPORT {
        failure = SystemError(number: -result)
      }
    }
    var connected: Int32 = -1
    while connected < 0, Clock.monotonicMilliseconds() < end {
      do throws(SystemError) { try poll(&entries, until: end) } catch { break }
      for index in entries.indices where entries[index].revents != 0 {
        let number = entries[index].fd
        let result = csys_connection_result(number)
        if result == 0, connected < 0 {
          connected = number
        } else {
          if result < 0 { failure = SystemError(number: -result) }
          close(number)
        }
        entries[index].fd = -1
        entries[index].revents = 0
      }
    }
    for index in entries.indices where entries[index].fd >= 0 { close(entries[index].fd) }
    return connected
  }

  private func beginConnection(to address: SocketAddress) -> Int32 {
    unsafe withUnsafePointer(to: address.storage) { target in
      guard let source else { return unsafe csys_begin_connection(nil, target, address.size) }
      return unsafe withUnsafePointer(to: source.storage) {
        unsafe csys_begin_connection($0, target, address.size)
      }
    }
  }
}
