package policies

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// The media types of an import.
const (
	MediaTypeJSON   = "application/json"     // an array of documents, or a single one
	MediaTypeNDJSON = "application/x-ndjson" // one document a line
)

// DocumentLine is one document of an import.
type DocumentLine struct {
	Line     int       // where the document begins, from 1
	Account  AccountID // whose document it is, as far as that can be read; else empty
	Document Document  // valid only without Err
	// Err is a [*MalformedError], an [*InvalidError] or a [*TooLargeError] of this
	// document, after which the next ones follow; or else what the reader itself
	// failed with, after which nothing follows.
	Err error
}

// ReadDocuments reads the documents of an import one after the other: an array
// of documents or a single one for application/json, one document a line for
// application/x-ndjson (empty lines are passed over). A bad document does not
// keep the ones after it from being read; only where an array itself is broken,
// so that the next document cannot be found, the sequence ends with that error.
// No more than one document, of at most [MaxDocumentBytes], is held in memory.
// Any other contentType gives one *MalformedError. The sequence can be used once.
func ReadDocuments(r io.Reader, contentType string, opts ...DecodeOption) iter.Seq[DocumentLine] {
	return func(yield func(DocumentLine) bool) {
		media, _, err := mime.ParseMediaType(contentType)
		switch {
		case err == nil && media == MediaTypeNDJSON:
			readLines(r, opts, yield)
		case err == nil && media == MediaTypeJSON:
			readArray(r, opts, yield)
		default:
			yield(DocumentLine{Line: 1, Err: &MalformedError{
				Where: "Content-Type", Reason: "must be " + MediaTypeJSON + " or " + MediaTypeNDJSON,
			}})
		}
	}
}

// decodeLine decodes the document that begins at line.
func decodeLine(line int, data []byte, opts []DecodeOption) DocumentLine {
	d, err := DecodeDocument(data, append(slices.Clip(opts), beginningOn(line))...)
	out := DocumentLine{Line: line, Document: d, Err: err, Account: d.Account.ID}
	if err != nil {
		out.Account = peekAccount(data)
	}
	return out
}

// peekAccount finds account.id in a document that may be bad in every other way.
func peekAccount(data []byte) AccountID {
	dec := jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if tok, err := dec.ReadToken(); err != nil || tok.Kind() != '{' {
		return ""
	}
	if !skipTo(dec, "account") || dec.PeekKind() != '{' {
		return ""
	}
	if _, err := dec.ReadToken(); err != nil || !skipTo(dec, "id") {
		return ""
	}
	tok, err := dec.ReadToken()
	if err != nil || tok.Kind() != '"' || !ValidID(tok.String()) {
		return ""
	}
	return AccountID(tok.String())
}

// skipTo moves to the value of the member called name of the object in which dec
// stands.
func skipTo(dec *jsontext.Decoder, name string) bool {
	for dec.PeekKind() == '"' {
		tok, err := dec.ReadToken()
		if err != nil {
			return false
		}
		if tok.String() == name {
			return true
		}
		if dec.SkipValue() != nil {
			return false
		}
	}
	return false
}

func readLines(r io.Reader, opts []DecodeOption, yield func(DocumentLine) bool) {
	br := bufio.NewReaderSize(r, 64<<10)
	for line := 1; ; line++ {
		data, tooLarge, err := readLine(br)
		var item DocumentLine
		switch {
		case tooLarge:
			item = DocumentLine{Line: line, Account: peekAccount(data), Err: &TooLargeError{What: "the account document", Limit: MaxDocumentBytes}}
		case len(bytes.TrimSpace(data)) == 0:
			item.Line = 0 // nothing to tell
		case err == nil || errors.Is(err, io.EOF):
			item = decodeLine(line, bytes.TrimRight(data, "\r\n"), opts)
		}
		if item.Line > 0 && !yield(item) {
			return
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			yield(DocumentLine{Line: line, Err: fmt.Errorf("read the documents: %w", err)})
			return
		}
	}
}

// readLine reads up to the next new line. Of a line over the limit it keeps the
// beginning only, and reads to its end.
func readLine(br *bufio.Reader) (data []byte, tooLarge bool, err error) {
	for {
		part, err := br.ReadSlice('\n')
		if len(data)+len(part) > MaxDocumentBytes {
			tooLarge = true
		}
		if !tooLarge {
			data = append(data, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return data, tooLarge, err
		}
	}
}

func readArray(r io.Reader, opts []DecodeOption, yield func(DocumentLine) bool) {
	lines := &lineReader{r: r, budget: MaxDocumentBytes}
	dec := jsontext.NewDecoder(lines, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	fail := func(err error) {
		offset := dec.InputOffset()
		if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
			offset = max(offset, syntactic.ByteOffset)
		}
		yield(DocumentLine{Line: lines.line(offset), Err: readError(err)})
	}
	single := dec.PeekKind() != '['
	if !single {
		if _, err := dec.ReadToken(); err != nil {
			fail(err)
			return
		}
	}
	for single || dec.PeekKind() != ']' {
		lines.budget = MaxDocumentBytes
		value, err := dec.ReadValue()
		if err != nil {
			fail(err)
			return
		}
		begin := dec.InputOffset() - int64(len(value))
		if !yield(decodeLine(lines.line(begin), value, opts)) {
			return
		}
		if single {
			break
		}
	}
	if !single {
		if _, err := dec.ReadToken(); err != nil {
			fail(err)
			return
		}
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = &MalformedError{Reason: "has something after its end"}
		}
		fail(err)
	}
}

// readError is err in our words, if it is the JSON's fault and not the reader's.
func readError(err error) error {
	if tooLarge, ok := errors.AsType[*TooLargeError](err); ok {
		return tooLarge
	}
	if errors.Is(err, io.EOF) {
		return &MalformedError{Reason: "is not valid JSON: there is nothing"}
	}
	if malformed, ok := errors.AsType[*MalformedError](Malformed(nil, err)); ok {
		return malformed
	}
	return fmt.Errorf("read the documents: %w", err)
}

// lineReader finds the line of an offset, and refuses to read on when more than
// budget bytes were read since the budget was last set.
type lineReader struct {
	r        io.Reader
	budget   int64
	offset   int64   // of what was read
	newlines []int64 // offsets of new lines not yet passed by line
	passed   int     // how many were
}

// Read is io.Reader's.
func (l *lineReader) Read(p []byte) (int, error) {
	if l.budget <= 0 {
		return 0, &TooLargeError{What: "the account document", Limit: MaxDocumentBytes}
	}
	n, err := l.r.Read(p)
	l.budget -= int64(n)
	for i, c := range p[:n] {
		if c == '\n' {
			l.newlines = append(l.newlines, l.offset+int64(i))
		}
	}
	l.offset += int64(n)
	return n, err
}

// line is the line, from 1, of the byte at offset; offsets must not decrease
// from call to call.
func (l *lineReader) line(offset int64) int {
	n := 0
	for n < len(l.newlines) && l.newlines[n] < offset {
		n++
	}
	l.passed += n
	l.newlines = l.newlines[n:]
	return l.passed + 1
}
