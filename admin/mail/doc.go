// Package mail writes the mails that usher sends, and hands them over: to a mail
// server by SMTP, or to a directory.
//
// A [Letter] is what a mail says; [Templates] make a [Message] of it, text and HTML;
// a [Sender] takes that away. A name or a word of an account stands in a mail as
// text only: HTML is escaped, and nothing in it can begin a header or a line of one.
package mail
