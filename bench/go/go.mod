module fastpool.example/bench

go 1.19
