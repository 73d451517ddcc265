package main

import (
	"net"
	"time"
)

const (
	first   = 16
	talkers = 10
	slices  = 9
)

// Connections that have made this many round trips and are idle now.
func idle(task *task, roundTrips int) (turn, error) {
	if err := enoughFiles(task.count); err != nil {
		return nil, err
	}
	held := make([]net.Conn, 0, first+task.count)
	open := func(count int) error {
		for i := 0; i < count; i++ {
			table, err := sit(task, len(held)%len(task.servers))
			if err != nil {
				return err
			}
			if err := table.play(roundTrips); err != nil {
				return err
			}
			held = append(held, table.conn)
		}
		return nil
	}
	if err := open(first); err != nil {
		return nil, err
	}
	return func() ([]float64, error) {
		before, err := residentBytes()
		if err != nil {
			return nil, err
		}
		if err := open(task.count); err != nil {
			return nil, err
		}
		atOnce, err := residentBytes()
		if err != nil {
			return nil, err
		}
		time.Sleep(task.turn)
		later, err := residentBytes()
		if err != nil {
			return nil, err
		}
		perSocket := func(after float64) float64 { return (after - before) / float64(task.count) }
		return []float64{perSocket(atOnce), perSocket(later)}, nil
	}, nil
}

// A few connections that talk among more and more silent ones.
func crowd(task *task) (turn, error) {
	if err := enoughFiles(task.count); err != nil {
		return nil, err
	}
	return func() ([]float64, error) {
		tables := make([]*table, talkers)
		for i := range tables {
			table, err := sit(task, 0)
			if err != nil {
				return nil, err
			}
			tables[i] = table
		}
		silent := make([]net.Conn, 0, task.count)
		var costs []float64
		var opening time.Duration
		sizes := []int{talkers, 100, 1000, task.count}
		for _, size := range sizes {
			begun := time.Now()
			for talkers+len(silent) < size && talkers+len(silent) < task.count {
				server := 1 + len(silent)%(len(task.servers)-1)
				conn, err := task.dial(task.servers[server])
				if err != nil {
					return nil, err
				}
				silent = append(silent, conn)
			}
			opening = time.Since(begun)
			cost, err := costOf(tables, task.turn)
			if err != nil {
				return nil, err
			}
			costs = append(costs, cost)
		}
		opened := float64(task.count - sizes[len(sizes)-2])
		perSocket := 0.0
		if opened > 0 {
			perSocket = opening.Seconds() * 1e6 / opened
		}
		return []float64{
			costs[0] * 1e6, costs[1] / costs[0], costs[2] / costs[0], costs[3] / costs[0], perSocket,
		}, nil
	}, nil
}

// Returns the CPU time of a round trip in seconds.
func costOf(tables []*table, within time.Duration) (float64, error) {
	for _, table := range tables {
		if err := table.play(betweenLooks); err != nil {
			return 0, err
		}
	}
	var costs []float64
	for slice := 0; slice < slices; slice++ {
		begun := time.Now()
		before, err := cpuTime()
		if err != nil {
			return 0, err
		}
		played := 0
		for time.Since(begun) < within/slices {
			for _, table := range tables {
				if err := table.play(1); err != nil {
					return 0, err
				}
				played++
			}
		}
		after, err := cpuTime()
		if err != nil {
			return 0, err
		}
		costs = append(costs, (after-before).Seconds()/float64(played))
	}
	return median(costs), nil
}
