import KnockBase
import KnockProtocol

/// What the gate decides on a datagram.
public enum Verdict: Equatable {
  /// The executor acts on it. The clock skew is how far the sender's clock is ahead of ours (microseconds).
  case accepted(Order, by: User, clockSkew: Int64)
  /// The MAC is right, but the server does not act on the datagram.
  case refused(Refusal, Header)
  /// The length, the key or the MAC is wrong. Nothing is known about the sender.
  case unauthentic(Refusal)

  /// What a refused datagram says, for the log. Its numbers may be out of range.
  public struct Header: Equatable {
    public let user: User
    public let command: UInt8
    /// The number that the sender's system has for the address family; 0 in version 2.
    public let family: Int32
    /// The length of the whole datagram (bytes).
    public let length: Int
    /// How far the sender's clock is ahead of ours (microseconds); nil if the time stamp is no finite number.
    public let clockSkew: Int64?
    /// Whether it only asks what an open would get.
    public internal(set) var isCheck = false
    /// Nil if the datagram is not well-formed.
    public internal(set) var knock: Knock?
    /// What the executor answers; nil if there is no answer.
    public internal(set) var order: Order?
  }
}
