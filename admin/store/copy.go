package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// copier copies rows into several tables in one go: each is sent before the one before
// has been answered. The driver's own COPY waits for every table's answer, and where all
// cores are busy the process hears that milliseconds late, while the server has nothing
// to do. A table that is refused takes the transaction with it, and the server says so of
// each that follows.
type copier struct {
	tx      *tx
	buf     []byte
	message int // where the message with rows begins that is being written
	asked   int // how many answers are to come
	err     error
}

const (
	// maxCopyMessage is about how long a message is, and what is sent at once: the
	// server works on one while the next is written.
	maxCopyMessage = 64 << 10
	copyHeader     = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // the format, no flags, no extension
	copyTrailer    = "\xff\xff"
)

// copyRows copies rows into a table; put writes the values of one, in the order of the
// columns.
func copyRows[R any](c *copier, table string, columns []string, rows []R, put func(*copier, R)) {
	if len(rows) == 0 || c.err != nil {
		return
	}
	query := pgproto3.Query{String: "copy " + table + " (" + strings.Join(columns, ", ") + ") from stdin binary"}
	if c.buf, c.err = query.Encode(c.buf); c.err != nil {
		return
	}
	c.begin()
	c.buf = append(c.buf, copyHeader...)
	for _, r := range rows {
		c.buf = binary.BigEndian.AppendUint16(c.buf, uint16(len(columns)))
		put(c, r)
		if len(c.buf) >= maxCopyMessage {
			c.end()
			c.send()
			c.begin()
		}
	}
	c.buf = append(c.buf, copyTrailer...)
	c.end()
	c.buf, _ = (&pgproto3.CopyDone{}).Encode(c.buf) // cannot fail: it has no content
	c.asked++
}

// begin and end are around the content of a message with rows.
func (c *copier) begin() {
	c.message = len(c.buf)
	c.buf = append(c.buf, 'd', 0, 0, 0, 0)
}

func (c *copier) end() {
	binary.BigEndian.PutUint32(c.buf[c.message+1:], uint32(len(c.buf)-c.message-1))
}

// send sends what was written. The server's answers, some bytes for each table, wait
// meanwhile: they never fill what lies between.
func (c *copier) send() {
	conn := c.tx.conn.Conn().PgConn().Conn()
	if c.err == nil {
		stop := context.AfterFunc(c.tx.ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })
		if _, c.err = conn.Write(c.buf); !stop() && c.err == nil {
			c.err = c.tx.ctx.Err()
		}
	}
	c.buf = c.buf[:0]
}

// finish sends the rest, and gives the first error that the server answers with. A
// connection that was left in the middle of all this is closed.
func (c *copier) finish() error {
	c.send()
	var refused error
	for c.err == nil && c.asked > 0 {
		var message pgproto3.BackendMessage
		message, c.err = c.tx.conn.Conn().PgConn().ReceiveMessage(c.tx.ctx)
		switch m := message.(type) {
		case *pgproto3.ErrorResponse:
			if refused == nil {
				refused = pgconn.ErrorResponseToPgError(m)
			}
		case *pgproto3.ReadyForQuery:
			c.asked--
		}
	}
	if c.err != nil {
		closed, cancel := context.WithCancel(context.WithoutCancel(c.tx.ctx))
		cancel() // without a farewell
		_ = c.tx.conn.Conn().Close(closed)
		if refused == nil {
			refused = fmt.Errorf("%w: %w", errConnectionClosed, c.err)
		}
	}
	return refused
}

// The values of a row, in the server's binary form.

func (c *copier) null() { c.int32(-1) }

func (c *copier) int32(n int32) { c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(n)) }

func (c *copier) bytes(b []byte) {
	if b == nil {
		c.null()
		return
	}
	c.int32(int32(len(b)))
	c.buf = append(c.buf, b...)
}

func (c *copier) bool(b bool) {
	c.int32(1)
	if b {
		c.buf = append(c.buf, 1)
	} else {
		c.buf = append(c.buf, 0)
	}
}

func (c *copier) integer(n int32) {
	c.int32(4)
	c.int32(n)
}

func (c *copier) bigint(n int64) {
	c.int32(8)
	c.buf = binary.BigEndian.AppendUint64(c.buf, uint64(n))
}

// epochOfServer is the server's zero of time, in microseconds of ours.
const epochOfServer = 946_684_800_000_000 // 2000-01-01

func (c *copier) time(t time.Time) { c.bigint(t.UnixMicro() - epochOfServer) }

func (c *copier) optionalTime(t *time.Time) {
	if t == nil {
		c.null()
		return
	}
	c.time(*t)
}

func copyText[S ~string](c *copier, texts ...S) {
	for _, s := range texts {
		c.int32(int32(len(s)))
		c.buf = append(c.buf, s...)
	}
}

func copyOptional[S ~string](c *copier, text *S) {
	if text == nil {
		c.null()
		return
	}
	copyText(c, *text)
}

func copyTexts[S ~string](c *copier, texts []S) {
	at := len(c.buf)
	c.int32(0)
	dimensions := int32(1)
	if len(texts) == 0 {
		dimensions = 0
	}
	c.int32(dimensions)
	c.int32(0) // no nulls
	c.int32(pgtype.TextOID)
	if len(texts) > 0 {
		c.int32(int32(len(texts)))
		c.int32(1) // where counting begins
		copyText(c, texts...)
	}
	binary.BigEndian.PutUint32(c.buf[at:], uint32(len(c.buf)-at-4))
}
