import KnockBase
import KnockProtocol

extension Senders {
  /// Connects to the TCP port of each host that has one. Meanwhile sends the knocks of `--repeat` that are left, and
  /// knocks again on hosts whose port does not open.
  ///
  /// - Returns: the connection that was made last; none without a port. The others are closed.
  mutating func connect() throws(ClientError) -> Descriptor {
    guard hasPort else { return .none }
    let start = SystemClock.monotonic()
    let end = start + waitSeconds * Microseconds.second
    var (running, placeCount) = (0, 0)  // races, and sockets
    var connection = Descriptor.none
    do throws(SystemError) {
      var races = try FixedList<ConnectionRace>(capacity: count)
      for index in 0..<count where items[index].waitPort != nil {
        races.append(
          try ConnectionRace(
            of: items[index], at: index, from: start, until: end, firstPlace: placeCount))
        placeCount = races[running].places.upperBound
        running += 1
      }
      let sockets = try ConnectingSockets(count: placeCount)
      // A host without a port gets all its knocks.
      let needsAllRounds = running < count
      while running > 0 || needsAllRounds && roundsLeft > 0 {
        let now = SystemClock.monotonic()
        guard running == 0 || now < end else { break }
        if roundsLeft > 0, nextRound <= now { sendRound(.open) }
        var moment = min(running > 0 ? end : .max, roundsLeft > 0 ? nextRound : .max)
        for index in 0..<races.count {
          moment = min(moment, advance(&races[index], sockets, now: now))
        }
        guard let place = try sockets.next(until: moment) else { continue }
        for index in 0..<races.count
        where races[index].finish(at: place, sockets, &connection) { running -= 1 }
      }
      for index in 0..<races.count {
        if let reason = races[index].failure(sockets) {
          items[races[index].host].logClosedPort(after: waitSeconds, reason)
        }
      }
    } catch { throw .system(error) }
    guard running == 0 else { throw .portNotOpened }
    return connection
  }

  /// Does what is due in a race. Returns the next moment at which something is.
  @inline(never)
  private mutating func advance(
    _ race: inout ConnectionRace, _ sockets: borrowing ConnectingSockets, now: Int64
  ) -> Int64 {
    if race.takeKnock(now: now) { _ = items[race.host].send(.open) }
    while let attempt = race.takeAttempt(now: now) {
      do throws(SystemError) {
        try items[race.host].begin(attempt, sockets)
      } catch { race.failAtOnce(error, now: now) }
    }
    return race.nextDeadline
  }
}
