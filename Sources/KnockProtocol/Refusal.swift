import KnockBase

/// The reasons for which the server does not act on a datagram. The raw values are the numbers of the counters. `Gate`
/// has the order of the checks.
public enum Refusal: UInt8, Error, Sendable {
  case wrongLength
  case unknownKey
  case badMAC
  case unknownCommand
  case unknownFlag
  case unknownDoor
  case reservedByte
  case secondsNotZero
  case unknownFamily
  case familyLengthMismatch
  case timeNotFinite
  case stale
  case unspecifiedAddress
  case multicastAddress
  case broadcastAddress
  case expiredKey
  case noSetForFamily
  case commandNotAllowed
  case addressNotAllowed
  case timeNotKept
  case queueFull
  case replayed
  case olderThanMemory
  case keyTooFast
  case replayMemoryFull

  /// How many cases there are.
  public static let count: UInt8 = 25

  /// Whether a good knock is lost, so that the administrator should act.
  public var isFailure: Bool {
    self == .keyTooFast || self == .replayMemoryFull || self == .queueFull
  }

  /// Whether a key holder sent the datagram just now: its MAC is right and it is no replay.
  public var isFromKeyHolder: Bool {
    switch self {
    case .wrongLength, .unknownKey, .badMAC, .replayed, .olderThanMemory: false
    default: true
    }
  }

  /// The end of a log line, after "refused ...: ".
  public var reason: Literal {
    switch self {
    case .wrongLength: "wrong length"
    case .unknownKey: "unknown key"
    case .badMAC: "bad MAC"
    case .unknownCommand: "unknown command"
    case .unknownFlag: "unknown flag"
    case .unknownDoor: "unknown door"
    case .reservedByte: "a reserved byte is not 0"
    case .secondsNotZero: "only an open can have seconds"
    case .unknownFamily: "unknown address family"
    case .familyLengthMismatch: "address family and length do not match"
    case .timeNotFinite: "time stamp is not a finite number"
    case .stale: "time stamp outside the allowed drift"
    case .unspecifiedAddress: "unspecified address"
    case .multicastAddress: "multicast address"
    case .broadcastAddress: "broadcast address"
    case .expiredKey: "the key has expired"
    case .noSetForFamily: "no set for its address family"
    case .commandNotAllowed: "not among the user's commands"
    case .addressNotAllowed: "not among the user's addresses"
    case .timeNotKept: "asks for a time, but nothing here ends what it opens"
    case .queueFull: "command queue full"
    case .replayed: "replay of an accepted datagram"
    case .olderThanMemory: "older than the replay memory reaches (did the clock go back?)"
    case .keyTooFast: "more than the user's share of --replay-capacity"
    case .replayMemoryFull: "replay memory full"
    }
  }

  /// The name of the counter.
  public var name: Literal {
    switch self {
    case .wrongLength: "wrong-length"
    case .unknownKey: "unknown-key"
    case .badMAC: "bad-mac"
    case .unknownCommand: "unknown-command"
    case .unknownFlag: "unknown-flag"
    case .unknownDoor: "unknown-door"
    case .reservedByte: "reserved-byte"
    case .secondsNotZero: "seconds-not-zero"
    case .unknownFamily: "unknown-family"
    case .familyLengthMismatch: "family-length-mismatch"
    case .timeNotFinite: "time-not-finite"
    case .stale: "stale"
    case .unspecifiedAddress: "unspecified-address"
    case .multicastAddress: "multicast-address"
    case .broadcastAddress: "broadcast-address"
    case .expiredKey: "expired-key"
    case .noSetForFamily: "no-set-for-family"
    case .commandNotAllowed: "command-not-allowed"
    case .addressNotAllowed: "address-not-allowed"
    case .timeNotKept: "time-not-kept"
    case .queueFull: "queue-full"
    case .replayed: "replayed"
    case .olderThanMemory: "older-than-memory"
    case .keyTooFast: "key-too-fast"
    case .replayMemoryFull: "replay-memory-full"
    }
  }
}

extension Address {
  /// Why this address is not that of one host, or nil if it can be.
  public var refusal: Refusal? {
    switch self {
    case .inet(0), .inet6(0, 0): .unspecifiedAddress
    case .inet(0xFFFF_FFFF): .broadcastAddress
    case .inet(let bits) where bits >> 28 == 0xE: .multicastAddress
    case .inet6(let high, _) where high >> 56 == 0xFF: .multicastAddress
    default: nil
    }
  }
}
