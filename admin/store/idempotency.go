package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
)

// idempotencyTTL is how long answers are kept for repetitions.
const idempotencyTTL = 24 * time.Hour

const (
	sqlKeptAnswer   = `select request_hash, answer from idempotency_keys where caller = $1 and key = $2`
	sqlInsertAnswer = `insert into idempotency_keys (caller, key, request_hash, answer, created_at) values ($1, $2, $3, $4, $5)`
	// A few at a time, so that no write pays for all.
	sqlDropOldAnswers = `delete from idempotency_keys where (caller, key) in
    (select caller, key from idempotency_keys where created_at < $1 order by created_at limit 100)`
)

// keptAnswer is the result of an earlier write, as JSON.
type keptAnswer struct{ RequestHash, Answer string }

// replay ends a write that was made before.
type replay struct{ kept keptAnswer }

func (*replay) Error() string { return "the write was made before" }

// caller is whose idempotency keys are meant.
func (c Call) caller() string {
	if c.IdempotencyCaller != "" {
		return c.IdempotencyCaller
	}
	return c.Token + "/" + string(c.Account)
}

// keepAnswer queues the result for a repetition, if the call has a key.
func (tx *tx) keepAnswer(o outcome) error {
	if tx.answer == nil {
		return nil
	}
	text, err := tx.answer(o)
	if err != nil {
		return fmt.Errorf("encode the result of %q: %w", tx.call.IdempotencyKey, err)
	}
	tx.queue.Queue(sqlDropOldAnswers, tx.now.Add(-idempotencyTTL))
	tx.queue.Queue(sqlInsertAnswer, tx.call.caller(), tx.call.IdempotencyKey, tx.call.RequestHash, text, tx.now)
	return nil
}

// writeResult is [Store.write] for the exported methods: fn fills in the value, its
// ETag and whether it is new.
func writeResult[T any](ctx context.Context, s *Store, call Call, action string, fn func(tx *tx, r *Result[T]) error) (Result[T], error) {
	var result Result[T]
	out, err := s.write(ctx, call, action, func(tx *tx) error {
		result = Result[T]{}
		if err := fn(tx, &result); err != nil {
			return err
		}
		if call.IdempotencyKey != "" && !call.DryRun {
			tx.answer = func(o outcome) (string, error) {
				kept := result
				kept.Revision, kept.Changed = o.revision, o.changed
				data, err := json.Marshal(kept)
				return string(data), err
			}
		}
		return nil
	})
	var before *replay
	if errors.As(err, &before) {
		return replayed[T](call, before.kept)
	}
	if err != nil {
		return Result[T]{}, err
	}
	result.Revision, result.Changed, result.Trial = out.revision, out.changed, out.trial
	return result, nil
}

// keptResult is what an earlier call with the same idempotency key was answered, if
// there was one: for writes that look before they are made.
func keptResult[T any](ctx context.Context, s *Store, call Call) (result Result[T], found bool, err error) {
	if call.IdempotencyKey == "" {
		return result, false, nil
	}
	kept, err := getAll[keptAnswer](ctx, s, sqlKeptAnswer, call.caller(), call.IdempotencyKey)
	if err != nil || len(kept) == 0 {
		return result, false, err
	}
	result, err = replayed[T](call, kept[0])
	return result, true, err
}

func replayed[T any](call Call, kept keptAnswer) (Result[T], error) {
	if kept.RequestHash != call.RequestHash {
		return Result[T]{}, &IdempotencyError{Key: call.IdempotencyKey}
	}
	var result Result[T]
	if err := json.Unmarshal([]byte(kept.Answer), &result); err != nil {
		return Result[T]{}, fmt.Errorf("decode the kept answer of %q: %w", call.IdempotencyKey, err)
	}
	result.Replayed = true
	return result, nil
}
