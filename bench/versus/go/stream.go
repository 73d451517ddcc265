package main

import (
	"bufio"
	"io"
	"time"
)

const (
	chunk          = 64 * 1024
	chunksToWarmUp = 256
	small          = 100
	gib            = 1024 * 1024 * 1024
	mib            = 1024 * 1024
)

// Moves a piece, and returns its number of bytes.
type step func() (int, error)

func writes(to io.Writer, size int) step {
	piece := make([]byte, size)
	for i := range piece {
		piece[i] = 0x5a
	}
	return func() (int, error) { return to.Write(piece) }
}

func reads(from io.Reader) step {
	buf := make([]byte, chunk)
	return func() (int, error) { return from.Read(buf) }
}

func bulkWrite(task *task) (turn, error) {
	conn, err := task.dial(task.servers[0])
	if err != nil {
		return nil, err
	}
	return oneWay(task, writes(conn, chunk)), nil
}

func bulkRead(task *task) (turn, error) {
	conn, err := task.dial(task.servers[0])
	if err != nil {
		return nil, err
	}
	return oneWay(task, reads(conn)), nil
}

func smallWrites(task *task) (turn, error) {
	conn, err := task.dial(task.servers[0])
	if err != nil {
		return nil, err
	}
	return oneWay(task, writes(conn, small)), nil
}

// The buffer has the size of the other contenders', twice Go's default.
func smallWritesBuffered(task *task) (turn, error) {
	conn, err := task.dial(task.servers[0])
	if err != nil {
		return nil, err
	}
	return oneWay(task, writes(bufio.NewWriterSize(conn, 8*1024), small)), nil
}

func oneWay(task *task, step step) turn {
	return func() ([]float64, error) {
		if _, err := times(chunksToWarmUp, step); err != nil {
			return nil, err
		}
		begun := time.Now()
		before, err := cpuTime()
		if err != nil {
			return nil, err
		}
		moved, err := moveFor(task.turn, step)
		if err != nil {
			return nil, err
		}
		passed := time.Since(begun)
		after, err := cpuTime()
		if err != nil {
			return nil, err
		}
		spent := (after - before).Seconds()
		return []float64{spent * 1e3 / (moved / gib), moved / mib / passed.Seconds()}, nil
	}
}

// One goroutine reads while another writes.
func duplex(task *task) (turn, error) {
	conn, err := task.dial(task.servers[0])
	if err != nil {
		return nil, err
	}
	up, down := writes(conn, chunk), reads(conn)
	return func() ([]float64, error) {
		before, err := cpuTime()
		if err != nil {
			return nil, err
		}
		readerWarm, writerWarm := make(chan struct{}), make(chan struct{})
		read := make(chan moved, 1)
		go func() { read <- run(down, task.turn, readerWarm, writerWarm) }()
		wrote := run(up, task.turn, writerWarm, readerWarm)
		// Before waiting for the other direction, which may have failed before it was warm.
		if wrote.err != nil {
			return nil, wrote.err
		}
		got := <-read
		if got.err != nil {
			return nil, got.err
		}
		after, err := cpuTime()
		if err != nil {
			return nil, err
		}
		spent := (after - before).Seconds()
		return []float64{
			wrote.perSecond()/mib + got.perSecond()/mib,
			spent * 1e3 / ((wrote.inAll + got.inAll) / gib),
		}, nil
	}, nil
}

// The bytes that one direction moved in a turn; inAll includes the warm-up.
type moved struct {
	inAll, counted float64
	within         time.Duration
	err            error
}

func (moved moved) perSecond() float64 { return moved.counted / moved.within.Seconds() }

// Moves pieces. Both directions wait for each other after the warm-up.
func run(step step, turn time.Duration, warm chan<- struct{}, otherWarm <-chan struct{}) moved {
	warming, err := times(chunksToWarmUp, step)
	close(warm)
	if err != nil {
		return moved{err: err}
	}
	<-otherWarm
	begun := time.Now()
	counted, err := moveFor(turn, step)
	return moved{warming + counted, counted, time.Since(begun), err}
}

func moveFor(turn time.Duration, step step) (float64, error) {
	begun := time.Now()
	moved := 0.0
	for time.Since(begun) < turn {
		more, err := times(betweenLooks, step)
		if err != nil {
			return 0, err
		}
		moved += more
	}
	return moved, nil
}

func times(count int, step step) (float64, error) {
	moved := 0
	for i := 0; i < count; i++ {
		more, err := step()
		if err != nil {
			return 0, err
		}
		moved += more
	}
	return float64(moved), nil
}
