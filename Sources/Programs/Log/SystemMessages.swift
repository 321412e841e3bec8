/// What messages say of the values of System.
extension SystemError: MessageConvertible {
  var message: Message { unsafe "\(cString: text)" }
}

extension Resolution.Failure: MessageConvertible {
  var message: Message { unsafe "\(cString: text)" }
}

extension ChildProcess.Ending: MessageConvertible {
  var message: Message {
    switch self {
    case .exited(let status): "exit status \(status)"
    case .killed(let signal): "signal \(signal.number)"
    }
  }
}
