/// The version of the program. No other file has it.
let version: StaticString = "1.2.0"
