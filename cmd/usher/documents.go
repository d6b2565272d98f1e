package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// documents is a file of account documents as the import endpoint takes it.
type documents struct {
	body        io.Reader
	size        int64 // -1: not known
	contentType string
	// lines holds, for documents written over several lines each, where each
	// begins; nil if the server's lines are the file's.
	lines []int
}

const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
)

// line is the line in the file of what the server calls line n.
func (d documents) line(n int) int {
	if n >= 1 && n <= len(d.lines) {
		return d.lines[n-1]
	}
	return n
}

// maxDocument bounds a document that is written over several lines, which is
// read into memory to be put on one.
const maxDocument = 256 << 20

// readDocuments looks at how r is written: an array is sent as it is, and so is
// one document a line; documents over several lines are put on one line each.
func readDocuments(r io.Reader, size int64) (documents, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	start, err := in.Peek(in.Size())
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return documents{}, err
	}
	start = bytes.TrimLeft(start, " \t\r\n")
	switch {
	case len(start) == 0:
		return documents{}, errors.New("it is empty; an account document is wanted")
	case start[0] == '[':
		return documents{body: in, size: size, contentType: typeJSON}, nil
	case !overSeveralLines(start):
		return documents{body: in, size: size, contentType: typeNDJSON}, nil
	}
	return joinLines(in)
}

// overSeveralLines tells whether the first line is the beginning of an object
// that goes on.
func overSeveralLines(start []byte) bool {
	first, _, ended := bytes.Cut(start, []byte("\n"))
	if !ended {
		return false
	}
	_, err := jsontext.NewDecoder(bytes.NewReader(first)).ReadValue()
	return errors.Is(err, io.ErrUnexpectedEOF)
}

// joinLines reads documents over several lines each, and puts each on one.
func joinLines(r io.Reader) (documents, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return documents{}, err
	}
	if len(data) > maxDocument {
		return documents{}, fmt.Errorf("documents over several lines may have %d MB together; put each on a line of its own", maxDocument>>20)
	}
	// The server judges duplicate names and invalid UTF-8, not this decoder.
	decoder := jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	var joined bytes.Buffer
	d := documents{contentType: typeNDJSON}
	for {
		value, err := decoder.ReadValue()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			offset := decoder.InputOffset()
			var syntactic *jsontext.SyntacticError
			if errors.As(err, &syntactic) {
				offset = syntactic.ByteOffset
			}
			return documents{}, fmt.Errorf("line %d: %w", lineAt(data, min(offset, int64(len(data)))), err)
		}
		d.lines = append(d.lines, lineAt(data, decoder.InputOffset()-int64(len(value))))
		value = value.Clone() // the decoder goes on using its buffer
		if err := value.Compact(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)); err != nil {
			return documents{}, fmt.Errorf("line %d: %w", d.lines[len(d.lines)-1], err)
		}
		joined.Write(value)
		joined.WriteByte('\n')
	}
	d.body, d.size = &joined, int64(joined.Len())
	return d, nil
}

// lineAt counts the lines of data up to offset, from 1.
func lineAt(data []byte, offset int64) int { return 1 + bytes.Count(data[:offset], []byte("\n")) }
