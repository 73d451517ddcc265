package main

import (
	"errors"
	"net"
	"os"
	"sort"
	"time"
)

// Connects and closes.
func churn(task *task) (turn, error) {
	connectAndClose := func(index int) error {
		conn, err := task.dial(task.servers[index%len(task.servers)])
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return func() ([]float64, error) {
		for i := range task.servers {
			if err := connectAndClose(i); err != nil {
				return nil, err
			}
		}
		begun := time.Now()
		for i := 0; i < task.count; i++ {
			if err := connectAndClose(i); err != nil {
				return nil, err
			}
		}
		return []float64{float64(task.count) / time.Since(begun).Seconds()}, nil
	}, nil
}

// The exchange before the end of a read.
type before struct {
	roundTrips int
	// A reader that has slept for this long is taken to be blocked.
	settled time.Duration
}

var (
	atRest     = before{0, 2 * time.Millisecond}
	inDialogue = before{1000, 200 * time.Microsecond}
)

// Ends another goroutine's read, and checks how that read ended.
type end struct {
	act    func(net.Conn) error
	proper error
}

var (
	byClose    = end{net.Conn.Close, net.ErrClosed}
	byDeadline = end{
		func(conn net.Conn) error { return conn.SetReadDeadline(time.Now()) },
		os.ErrDeadlineExceeded,
	}
)

// One goroutine is blocked in a read without data; another ends that read.
func ended(task *task, before before, end end) (turn, error) {
	return func() ([]float64, error) {
		latencies := make([]float64, task.count)
		for i := range latencies {
			latency, err := endOne(task, before, end)
			if err != nil {
				return nil, err
			}
			latencies[i] = latency.Seconds() * 1e6
		}
		sort.Float64s(latencies)
		return []float64{latencies[len(latencies)/2], latencies[len(latencies)-1]}, nil
	}, nil
}

func endOne(task *task, before before, end end) (time.Duration, error) {
	table, err := sit(task, 0)
	if err != nil {
		return 0, err
	}
	defer table.conn.Close()
	played := make(chan error, 1)
	read := make(chan error, 1)
	var over time.Time
	go func() {
		played <- table.play(before.roundTrips)
		_, err := table.conn.Read(table.back[:])
		over = time.Now()
		read <- err
	}()
	if err := <-played; err != nil {
		return 0, err
	}
	// A goroutine cannot report that it waits. The other contenders' readers are blocked after this time.
	time.Sleep(2 * before.settled)
	begun := time.Now()
	if err := end.act(table.conn); err != nil {
		return 0, err
	}
	switch err := <-read; {
	case err == nil:
		return 0, errors.New("the read returned bytes that the server did not send")
	case !errors.Is(err, end.proper):
		return 0, err
	}
	return over.Sub(begun), nil
}
