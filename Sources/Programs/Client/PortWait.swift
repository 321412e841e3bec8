import KnockBase
import KnockProtocol

extension Sender {
  /// The most addresses of a host that are tried.
  private static var addressCount: Int { 8 }
  /// How long the first attempt may take. Each one may take twice as long as the one before it, up to the limit.
  private static var firstPatience: Int64 { 100 * Microseconds.millisecond }
  private static var patienceLimit: Int64 { 4 * Microseconds.second }
  /// After so many attempts the knock is sent again before each one, since it may have been lost.
  private static var attemptsPerKnock: Int { 3 }

  /// Connects to a TCP port of the host that was knocked on. Tries all addresses at once, until the time is over.
  mutating func connect(to port: UInt16, within seconds: Int64) throws(ClientError) -> Descriptor {
    let deadline = SystemClock.monotonic() + seconds * Microseconds.second
    var patience = Self.firstPatience
    var failure = SystemError.timedOut
    var attempt = 0
    while true {
      if attempt >= Self.attemptsPerKnock { _ = send(.open) }
      let end = min(deadline, SystemClock.monotonic() + patience)
      let socket = attemptConnection(to: port, until: end, &failure)
      if socket.isOpen { return socket }
      guard SystemClock.monotonic() < deadline else { break }
      attempt += 1
      patience = min(2 * patience, Self.patienceLimit)
    }
    throw .portNotOpened(port, host: host, seconds: seconds, failure)
  }

  /// The first connection that is made; none if none is made in time.
  private func attemptConnection(
    to port: UInt16, until end: Int64, _ failure: inout SystemError
  ) -> Descriptor {
    var sockets = InlineArray<8, Descriptor> { _ in .none }
    for position in 0..<Self.addressCount {
      guard let address = addresses.address(at: position) else { break }
      do throws(SystemError) {
        sockets[position] = try Descriptor(connectingTo: address.with(port: port), from: source)
      } catch {
        if error != .familyNotSupported { failure = error }
      }
    }
    while SystemClock.monotonic() < end {
      var set = PollSet()
      for index in sockets.indices { set.addWriter(sockets[index].number) }
      do throws(SystemError) { try set.wait(until: end) } catch { break }
      for index in sockets.indices where set.isReady(index) {
        var socket = Descriptor.none
        swap(&socket, &sockets[index])
        do throws(SystemError) {
          try socket.finishConnecting()
          return socket
        } catch { failure = error }
      }
    }
    return .none
  }
}
