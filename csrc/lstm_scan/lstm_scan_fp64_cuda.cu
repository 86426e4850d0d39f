// The LSTM scans in fp64; a file a format keeps compilation short.
#include "lstm_scan/scan_launch_cuda.h"

namespace genfast::scan {

template void forward_on<Simt<double>>(const LstmScan&, ScanPlan, cudaStream_t);
template void backward_on<Simt<double>>(const LstmScan&, bool, ScanPlan, cudaStream_t);

}  // namespace genfast::scan
