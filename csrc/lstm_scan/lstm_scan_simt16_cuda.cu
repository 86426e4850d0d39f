// The LSTM scans without tensor cores in 16 bits; a file a path keeps compilation short.
#include "lstm_scan/scan_launch_cuda.h"

namespace genfast::scan {

template void forward_on<Simt<__nv_bfloat16>>(const LstmScan&, ScanPlan, cudaStream_t);
template void backward_on<Simt<__nv_bfloat16>>(const LstmScan&, bool, ScanPlan, cudaStream_t);
template void forward_on<Simt<__half>>(const LstmScan&, ScanPlan, cudaStream_t);
template void backward_on<Simt<__half>>(const LstmScan&, bool, ScanPlan, cudaStream_t);

}  // namespace genfast::scan
